// SPDX-License-Identifier: MIT

package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// pair makes a connection of two ends in this process.
func pair(network, address string) (net.Conn, net.Conn) {
	l, err := net.Listen(network, address)
	must(err)
	defer l.Close()
	accepted := make(chan net.Conn)
	go func() {
		c, err := l.Accept()
		must(err)
		accepted <- c
	}()
	a, err := net.Dial(network, l.Addr().String())
	must(err)
	return a, <-accepted
}

// longest is what both ends of secured agree on by ALPN.
var longest = []string{strings.Repeat("x", 255)}

// secured puts TLS and meters on both ends. An odd number makes it TLS 1.2.
func secured(name string, number int, a, b net.Conn) (*meter, *meter) {
	config := serverConfig()
	// Nobody reads a ticket in time, and a write to a pipe waits for its reader.
	config.SessionTicketsDisabled = a.LocalAddr().Network() == "pipe"
	asked := clientConfig(number)
	asked.NextProtos, config.NextProtos = longest, longest
	client, server := tls.Client(a, asked), tls.Server(b, config)
	return measured(name+", client", client, a), measured(name+", server", server, b)
}

func shakeHands(client, server *meter) {
	done := make(chan bool)
	go func() {
		must(server.Conn.(*tls.Conn).Handshake())
		close(done)
	}()
	must(client.Conn.(*tls.Conn).Handshake())
	<-done
}

// shaken is secured, and shakes hands.
func shaken(name string, number int, a, b net.Conn) (*meter, *meter) {
	client, server := secured(name, number, a, b)
	shakeHands(client, server)
	return client, server
}

func tcpPair(name string, number int) (*meter, *meter) {
	a, b := pair("tcp", "127.0.0.1:0")
	return shaken(fmt.Sprintf("%s %d", name, number), number, a, b)
}

// A holder is a connection that keeps what is written to it until flush.
type holder struct {
	net.Conn
	on   bool
	kept []byte
}

func (h *holder) Write(b []byte) (int, error) {
	if !h.on {
		return h.Conn.Write(b)
	}
	h.kept = append(h.kept, b...)
	return len(b), nil
}

func (h *holder) Close() error {
	must(h.Conn.SetWriteDeadline(time.Time{}))
	_, err := h.Conn.Write(h.kept)
	must(err)
	return h.Conn.Close()
}

// expect checks what a call said: how much, and a part of why not more.
func expect(what string, n int, err error, wantN int, failed bool) {
	if n != wantN || (err != nil) != failed {
		wrong("%s: %d bytes and error %v", what, n, err)
	}
}

// lastWords: the data and the end in one segment, so that Read returns n > 0 and io.EOF.
func lastWords() {
	for i := 0; i < 5; i++ {
		a, b := pair("tcp", "127.0.0.1:0")
		h := &holder{Conn: b}
		client, server := shaken("last words", i, a, h)
		_, err := server.Write([]byte("hello"))
		must(err)
		buf := make([]byte, 4096)
		n, err := client.Read(buf) // tickets are out of the way with it
		expect("hello", n, err, 5, false)
		h.on = true
		_, err = server.Write(message(uint32(1000 + i))[:100])
		must(err)
		must(server.Close())
		n, err = client.Read(buf)
		if i%2 == 1 { // with TLS 1.3 an alert cannot be told from data before it is read
			expect("last words", n, err, 100, true)
		} else {
			expect("last words", n, err, 100, false)
			n, err = client.Read(buf)
			expect("the end", n, err, 0, true)
		}
		client.Close()
	}
}

// nothing: calls that transfer nothing, among some that do.
func nothing() {
	client, server := tcpPair("nothing", 0)
	buf := make([]byte, 100)
	n, err := client.Write(nil)
	expect("empty Write", n, err, 0, false)
	n, err = client.Write([]byte("one"))
	expect("Write", n, err, 3, false)
	n, err = server.Read(buf[:0])
	expect("Read into nothing", n, err, 0, false)
	n, err = server.Read(buf)
	expect("Read", n, err, 3, false)
	must(server.SetReadDeadline(time.Now().Add(-time.Second)))
	n, err = server.Read(buf)
	expect("late Read", n, err, 0, true)
	must(server.SetReadDeadline(time.Time{}))
	n, err = client.Write([]byte("three"))
	expect("Write", n, err, 5, false)
	n, err = server.Read(buf[:2])
	expect("Read of a part", n, err, 2, false)
	n, err = server.Read(buf)
	expect("Read of the rest", n, err, 3, false)
	must(client.Close())
	n, err = client.Write([]byte("never sent"))
	expect("Write after Close", n, err, 0, true)
	n, err = client.Read(buf)
	expect("Read after Close", n, err, 0, true)
	n, err = server.Read(buf)
	expect("Read at the end", n, err, 0, true)
	must(server.SetWriteDeadline(time.Now().Add(-time.Second)))
	n, err = server.Write([]byte("too late"))
	expect("late Write", n, err, 0, true)
	server.Close()
}

// half: a large Write that a deadline ends when a part of it is sent.
func half() {
	a, b := pair("tcp", "127.0.0.1:0")
	client, server := shaken("half", 0, a, b)
	big := make([]byte, 32<<20)
	fill(big, 7, 0)
	must(client.SetWriteDeadline(time.Now().Add(300 * time.Millisecond)))
	n, err := client.Write(big)
	if err == nil || !os.IsTimeout(err) || n == 0 || n == len(big) {
		wrong("half a Write: %d bytes and error %v", n, err)
	}
	a.Close()
	b.Close()
	server.Close()
}

// interrupted: a Write that waits while another goroutine calls Close. It has sent a part, and is a
// call on the connection as it was.
func interrupted() {
	a, b := pair("tcp", "127.0.0.1:0")
	client, server := shaken("interrupted", 0, a, b)
	n, err := client.Write(message(1))
	expect("Write", n, err, len(message(1)), false)
	big := make([]byte, 32<<20)
	fill(big, 8, 0)
	done := make(chan bool)
	go func() {
		n, err := client.Write(big)
		if err == nil || n == 0 || n == len(big) {
			wrong("an interrupted Write: %d bytes and error %v", n, err)
		}
		close(done)
	}()
	time.Sleep(300 * time.Millisecond)
	client.Close()
	<-done
	b.Close()
	server.Close()
}

// leftovers: what was decrypted before Close is still read after it, as http.Client does when a request
// is given up while its body comes.
func leftovers() {
	for i := 0; i < 4; i++ {
		client, server := tcpPair("leftovers", i)
		text := make([]byte, 1000) // one record
		fill(text, 6, 0)
		_, err := server.Write(text)
		must(err)
		buf := make([]byte, 400)
		n, err := client.Read(buf[:100])
		expect("Read", n, err, 100, false)
		must(client.Close())
		for n = 100; n < len(text); {
			got, err := client.Read(buf)
			must(err)
			n += got
			time.Sleep(time.Millisecond)
		}
		n, err = client.Read(buf)
		expect("Read of what was not decrypted", n, err, 0, true)
		client.Close() // once more
		server.Close()
	}
}

func ends() {
	lastWords()
	nothing()
	leftovers()
	half()
	interrupted()
}
