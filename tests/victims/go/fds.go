// SPDX-License-Identifier: MIT

package main

import (
	"crypto/tls"
	"fmt"
	"io/ioutil"
	"net"
	"os"
	"path/filepath"
)

// toAndFro sends a message each way.
func toAndFro(client, server *meter, number uint32) {
	sent := make(chan bool)
	send := func(m *meter, number uint32) {
		inPieces(m, message(number), number)
		sent <- true
	}
	go send(client, number)
	got, err := receive(server)
	must(err)
	<-sent
	go send(server, got|reply)
	_, err = receive(client)
	must(err)
	<-sent
}

// exchange sends a message each way, and closes.
func exchange(client, server *meter, number uint32) {
	toAndFro(client, server, number)
	sent := make(chan bool)
	go func() {
		client.Close()
		sent <- true
	}()
	n, err := server.Read(make([]byte, 1))
	expect("the end", n, err, 0, true)
	<-sent
}

// wrapped is a connection of another type than those of package net.
type wrapped struct {
	net.Conn
}

// large has, where *net.TCPConn has its descriptor, other things.
type large struct {
	first  uint64
	second *uint64
	net.Conn
}

// fds: TLS over everything that can be a net.Conn.
func fds() {
	for i := 0; i < 3; i++ {
		client, server := tcpPair("tcp", i)
		exchange(client, server, uint32(2000+i))
	}
	a, b := pair("tcp", "[::1]:0")
	client, server := secured("tcp6", 0, a, b)
	exchange(client, server, 2010)

	folder, err := ioutil.TempDir("", "talk")
	must(err)
	defer os.RemoveAll(folder)
	a, b = pair("unix", filepath.Join(folder, "socket"))
	client, server = secured("unix", 1, a, b)
	exchange(client, server, 2011)

	a, b = net.Pipe()
	client, server = secured("pipe", 0, a, b)
	exchange(client, server, 2012)

	a, b = pair("tcp", "127.0.0.1:0")
	number := uint64(3)
	client, server = secured("wrapped", 1, wrapped{a}, &large{0x1122334455667788, &number, b})
	exchange(client, server, 2013)
}

// stdin: the socket has descriptor 0.
func stdin() {
	l, err := net.Listen("tcp", "127.0.0.1:0") // whatever the runtime opens, it opens now
	must(err)
	accepted := make(chan net.Conn)
	go func() {
		c, err := l.Accept()
		must(err)
		accepted <- c
	}()
	must(os.Stdin.Close())
	a, err := net.Dial("tcp", l.Addr().String())
	must(err)
	if descriptor(a) != 0 {
		wrong("the descriptor is %d, not 0", descriptor(a))
	}
	client, server := secured("stdin", 0, a, <-accepted)
	exchange(client, server, 2020)
}

// layers: TLS over TLS. The inner one's records are the outer one's plaintext.
func layers() {
	for i := 0; i < 3; i++ {
		a, b := pair("tcp", "127.0.0.1:0")
		outside, inside := secured(fmt.Sprintf("outer %d", i), i, a, b)
		client, server := secured(fmt.Sprintf("inner %d", i), i+1, outside, inside)
		exchange(client, server, uint32(2030+i))
	}
	// Without a meter in between: the inner connection's conn is a *tls.Conn.
	a, b := pair("tcp", "127.0.0.1:0")
	outside, inside := tls.Client(a, clientConfig(0)), tls.Server(b, serverConfig())
	client, server := secured("bare", 0, outside, inside)
	exchange(client, server, 2040)
}
