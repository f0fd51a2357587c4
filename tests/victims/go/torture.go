// SPDX-License-Identifier: MIT

package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"
)

var tortured int64

// endless is one direction of a connection whose text never ends: every byte is known from its place.
type endless struct {
	tag uint32
	pos int64
}

func (e *endless) send(c net.Conn, n int) error {
	b := make([]byte, n)
	fill(b, e.tag, e.pos)
	k, err := c.Write(b)
	e.pos += int64(k)
	return err
}

func (e *endless) check(got []byte) {
	want := make([]byte, len(got))
	fill(want, e.tag, e.pos)
	if string(want) != string(got) {
		wrong("connection %x: wrong bytes from %d on", e.tag, e.pos)
	}
	e.pos += int64(len(got))
}

// swap sends and reads without end: buffers on the stack, at changing depths, in new goroutines.
func swap(conn *tls.Conn, out, in *endless, ends func() bool) {
	m := &meter{Conn: conn, in: newTally(), out: newTally()}
	r := &freshReader{m: m}
	buf := make([]byte, 700)
	for k := int(out.tag); !ends(); k++ {
		if out.send(conn, 1+k*37%1400) != nil {
			return
		}
		// Neither side gets far ahead of the other: both would wait to write, and nobody read.
		for first := true; first || in.pos+4096 < out.pos; first = false {
			n, err := r.Read(buf[:1+k*31%700])
			in.check(buf[:n])
			if err != nil {
				return
			}
		}
		atomic.AddInt64(&tortured, 1)
		time.Sleep(time.Duration(2+k%8) * time.Millisecond)
	}
}

// tortureServer: the first byte that a client sends is its number.
func tortureServer(address string, stop <-chan os.Signal) {
	config := serverConfig()
	go collect(10 * time.Millisecond)
	ended := make(chan os.Signal, 1)
	var over int32
	go func() {
		s := <-stop
		atomic.StoreInt32(&over, 1)
		ended <- s
	}()
	serve(address, ended, func(i int, conn net.Conn) {
		c := tls.Server(conn, config)
		defer c.Close()
		var number [1]byte
		_, err := c.Read(number[:])
		must(err)
		tag := uint32(number[0])
		swap(c, &endless{tag: tag | 0x100}, &endless{tag: tag},
			func() bool { return atomic.LoadInt32(&over) == 1 })
	})
	say(fmt.Sprintf(`{"server": %d, "copied": %d}`, tortured, copied))
}

// tortureClient ends when the server does.
func tortureClient(address string) {
	go collect(10 * time.Millisecond)
	together(*workers, func(i int) {
		conn, err := net.Dial("tcp", address)
		must(err)
		c := tls.Client(conn, clientConfig(i))
		_, err = c.Write([]byte{byte(i)})
		must(err)
		swap(c, &endless{tag: uint32(i)}, &endless{tag: uint32(i) | 0x100},
			func() bool { return false })
		c.Close()
	})
	say(fmt.Sprintf(`{"client": %d, "copied": %d}`, tortured, copied))
}
