// SPDX-License-Identifier: MIT

package main

import (
	"crypto/tls"
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// copied counts the Reads during which the runtime moved the goroutine's stack, and their buffers on
// it, elsewhere.
var copied, stayed int64

// readOnStack reads into a buffer on its own stack. conn is no interface, so that it stays there.
//
//go:noinline
func readOnStack(conn *tls.Conn, t *tally, into []byte) (int, error) {
	var buf [700]byte
	thread, before := syscall.Gettid(), uintptr(unsafe.Pointer(&buf[0]))
	n, err := conn.Read(buf[:len(into)])
	if before == uintptr(unsafe.Pointer(&buf[0])) {
		atomic.AddInt64(&stayed, 1)
	} else {
		atomic.AddInt64(&copied, 1)
	}
	copy(into, buf[:n])
	t.add(into[:n], goid(), thread, err)
	return n, err
}

// deep calls readOnStack from many frames below.
//
//go:noinline
func deep(depth int, conn *tls.Conn, t *tally, into []byte) (int, error) {
	var pad [200]byte
	if depth == 0 {
		return readOnStack(conn, t, into)
	}
	pad[depth%200] = 1
	n, err := deep(depth-1, conn, t, into)
	if pad[depth%200] != 1 {
		wrong("a frame has changed")
	}
	return n, err
}

// A freshReader reads each piece in a goroutine of its own, whose stack is small at first.
type freshReader struct {
	m     *meter
	count int
}

func (f *freshReader) Read(b []byte) (int, error) {
	conn := f.m.Conn.(*tls.Conn)
	if len(b) > 700 {
		b = b[:700]
	}
	into, f0 := make([]byte, 700), f.count
	f.count++
	var n int
	var err error
	done := make(chan bool)
	go func() {
		switch f0 % 4 {
		case 0, 1: // grows in Read
			n, err = readOnStack(conn, f.m.in, into[:len(b)])
		case 2:
			n, err = deep(5+f0%50, conn, f.m.in, into[:len(b)])
		case 3: // large now, and shrinks while it waits in Read
			grow(100)
			n, err = readOnStack(conn, f.m.in, into[:len(b)])
		}
		close(done)
	}()
	<-done
	return copy(b, into[:n]), err
}

//go:noinline
func grow(depth int) byte {
	var pad [500]byte
	if depth > 0 {
		pad[depth%500] = grow(depth-1) + 1
	}
	return pad[depth%500]
}

// collect collects garbage without end: each round shrinks stacks.
func collect(pause time.Duration) {
	for {
		runtime.GC()
		time.Sleep(pause)
	}
}

// stacks: buffers on stacks that grow and shrink in the middle of Read.
func stacks() {
	go collect(2 * time.Millisecond)
	together(40, func(i int) {
		client, server := tcpPair("stack", i)
		go func() {
			for k := 0; k < 5; k++ {
				if k%2 == 1 {
					time.Sleep(20 * time.Millisecond) // for the reader to wait, and shrink
				}
				inPieces(server, message(uint32(3000+10*i+k)), uint32(k))
			}
			must(server.Close())
		}()
		r := &freshReader{m: client}
		for k := 0; k < 5; k++ {
			number, err := receive(r)
			must(err)
			if number != uint32(3000+10*i+k) {
				wrong("message %x instead of %x", number, 3000+10*i+k)
			}
		}
		client.Close()
	})
	say(fmt.Sprintf(`{"copied": %d, "stayed": %d}`, copied, stayed))
}

// park: goroutines wait in Read while others take the threads away.
func park() {
	stop := make(chan bool)
	for i := 0; i < 3; i++ {
		go func() { // a thread of its own, in and out of system calls that wait
			runtime.LockOSThread()
			for {
				select {
				case <-stop:
					return
				default:
					t := syscall.NsecToTimespec(200000)
					syscall.Nanosleep(&t, nil)
					runtime.Gosched()
				}
			}
		}()
	}
	together(20, func(i int) {
		client, server := tcpPair("park", i)
		go func() {
			for k := 0; k < 20; k++ {
				time.Sleep(time.Duration(1+i%5) * time.Millisecond)
				_, err := server.Write(message(uint32(4000 + 100*i + k)))
				must(err)
			}
		}()
		for k := 0; k < 20; k++ {
			_, err := receive(client)
			must(err)
		}
		client.Close()
	})
	close(stop)
}
