// SPDX-License-Identifier: MIT

package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"unsafe"
)

// drop forgets the connection, for the collector to take it.
func (m *meter) drop() {
	m.Conn = nil
}

func (m *meter) place() uintptr {
	return uintptr(unsafe.Pointer(m.Conn.(*tls.Conn)))
}

// dropped: connections that nobody closes, of which the collector makes others.
func dropped() {
	places, again := map[uintptr]bool{}, 0
	for i := 0; i < 60; i++ {
		a, b := pair("tcp", "127.0.0.1:0")
		client, server := secured(fmt.Sprintf("dropped %d", i), i, a, b)
		if i%3 == 1 { // else the first Read and Write do
			shakeHands(client, server)
		}
		toAndFro(client, server, uint32(5000+i))
		for _, m := range []*meter{client, server} {
			if places[m.place()] {
				again++
			}
			places[m.place()] = true
			m.drop()
		}
		a.Close()
		b.Close()
		runtime.GC()
	}
	found := false
	for i := 0; i < 100 && !found; i++ {
		found = reborn(uint32(i))
	}
	say(fmt.Sprintf(`{"again": %d, "reborn": %v}`, again, found))
}

// A will is a connection that does something before it is closed.
type will struct {
	net.Conn
	last func()
}

func (w *will) Close() error {
	w.last()
	return w.Conn.Close()
}

// A later is a connection whose other half comes when it is known what it is for.
type later struct {
	net.Conn
}

// reborn: the memory serves another connection while the last one's Close has not returned.
func reborn(i uint32) bool {
	// What another processor has set aside for itself is not found here.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	a, b := pair("tcp", "127.0.0.1:0")
	w := &will{Conn: a}
	client, server := shaken(fmt.Sprintf("closing %d", i), 0, w, b)
	toAndFro(client, server, 5100+i)
	server.drop()
	place, conn, found := client.place(), client.Conn, false
	client.drop()
	var next, other *meter
	w.last = func() {
		runtime.GC()
		runtime.GC() // what was in a pool
		var tried []*tls.Conn
		for !found && len(tried) < 10000 {
			over := &later{}
			t := tls.Client(over, clientConfig(1))
			tried = append(tried, t)
			if found = uintptr(unsafe.Pointer(t)) == place; found {
				c, d := pair("tcp", "127.0.0.1:0")
				over.Conn = c
				next = measured("reborn, client", t, over)
				other = measured("reborn, server", tls.Server(d, serverConfig()), d)
				toAndFro(next, other, 5200)
			}
		}
	}
	must(conn.Close())
	if found {
		toAndFro(next, other, 5201)
		next.Close()
	}
	return found
}
