// SPDX-License-Identifier: MIT

package main

import (
	"crypto/tls"
	"io/ioutil"
	"net"
)

// A reuser is a connection that spoils a byte of a text while it is being sent, as whoever gets the
// memory does that the collector took: nobody uses the text any more, though Write has not returned.
// A message much like the last one is the hardest to tell from it.
type reuser struct {
	net.Conn
	text []byte
}

func (r *reuser) Write(b []byte) (int, error) {
	if len(r.text) > 0 {
		r.text[len(r.text)*2/3] = '!'
	}
	return r.Conn.Write(b)
}

// reused sends texts, of which every other one is not there any more when Write returns.
func reused() {
	a, b := pair("tcp", "127.0.0.1:0")
	r := &reuser{Conn: a}
	client, server := tls.Client(r, clientConfig(0)), tls.Server(b, serverConfig())
	done := make(chan bool)
	go func() {
		got, err := ioutil.ReadAll(server)
		must(err)
		want := make([]byte, len(got))
		fill(want, 9, 0)
		if len(got) == 0 || string(got) != string(want) {
			wrong("other bytes arrived")
		}
		close(done)
	}()
	must(client.Handshake())
	pos := int64(0)
	sizes := []int{1, 1, 7, 7, 8, 8, 63, 64, 65, 65, 16383, 16384}
	for n := 0; n < 40; n++ {
		sizes = append(sizes, 100+n*100)
	}
	for n, size := range sizes {
		text := make([]byte, size)
		fill(text, 9, pos)
		pos += int64(len(text))
		if r.text = nil; n%2 == 1 {
			r.text = text
		}
		_, err := client.Write(text)
		must(err)
	}
	r.text = nil
	must(client.Close())
	<-done
}
