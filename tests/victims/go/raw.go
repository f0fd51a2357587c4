// SPDX-License-Identifier: MIT

package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
)

// listening is closed when the server listens.
var listening = make(chan bool)

func listen(address string) net.Listener {
	l, err := net.Listen("tcp", address)
	must(err)
	say("listening")
	close(listening)
	return l
}

// serve accepts connections until stop, then waits for them to end.
func serve(address string, stop <-chan os.Signal, each func(number int, conn net.Conn)) {
	l := listen(address)
	go func() {
		<-stop
		l.Close()
	}()
	var all sync.WaitGroup
	for number := 0; ; number++ {
		conn, err := l.Accept()
		if err != nil {
			break
		}
		all.Add(1)
		go func(number int) {
			each(number, conn)
			all.Done()
		}(number)
	}
	all.Wait()
}

// together runs f(0), f(1), ... at the same time.
func together(n int, f func(number int)) {
	var all sync.WaitGroup
	all.Add(n)
	for i := 0; i < n; i++ {
		go func(i int) {
			f(i)
			all.Done()
		}(i)
	}
	all.Wait()
}

// rawServer answers messages on connections of TLS that it reads and writes itself.
func rawServer(address string, stop <-chan os.Signal) {
	config := serverConfig()
	serve(address, stop, func(i int, conn net.Conn) {
		c := measured(fmt.Sprintf("server %d", i), tls.Server(conn, config), conn)
		defer c.Close()
		for {
			number, err := receive(c)
			if err == io.EOF {
				return
			}
			must(err)
			inPieces(c, message(number|reply), number)
		}
	})
}

// rawClient: each goroutine has a connection of its own. Every third has a second goroutine, which
// writes all messages while the first reads the answers.
func rawClient(address string) {
	together(*workers, func(i int) {
		conn, err := net.Dial("tcp", address)
		must(err)
		c := measured(fmt.Sprintf("client %d", i), tls.Client(conn, clientConfig(i)), conn)
		defer c.Close()
		first := uint32(i * *rounds)
		send := func(k int) { inPieces(c, message(first+uint32(k)), first+uint32(k)) }
		if i%3 == 0 {
			go func() {
				for k := 0; k < *rounds; k++ {
					send(k)
				}
			}()
		}
		for k := 0; k < *rounds; k++ {
			if i%3 != 0 {
				send(k)
			}
			number, err := receive(c)
			must(err)
			if number != first+uint32(k)|reply {
				wrong("the answer %x came to message %x", number, first+uint32(k))
			}
		}
	})
}
