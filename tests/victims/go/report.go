// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"net"
	"os"
	"runtime"
	"sort"
	"strconv"
	"sync"
	"syscall"
)

var stdoutLock sync.Mutex

func say(word string) {
	stdoutLock.Lock()
	defer stdoutLock.Unlock()
	fmt.Println(word)
}

// wrong ends the program: something is not as it must be.
func wrong(format string, a ...interface{}) {
	fmt.Fprintf(os.Stderr, "talk: "+format+"\n", a...)
	os.Exit(1)
}

func must(err error) {
	if err != nil {
		_, file, line, _ := runtime.Caller(1)
		wrong("%s:%d: %v", file, line, err)
	}
}

// A tally is what went over a connection in one direction.
type tally struct {
	sync.Mutex
	bytes   int64
	sum     hash.Hash
	calls   []int           // of each call that transferred something, how much
	goids   map[int64]bool  // the goroutines that called
	threads [][3]int        // of those calls, where they differ: which call, thread before and after
	half    [][]interface{} // the calls that transferred something and failed: how much, why
	empty   []string        // the calls that transferred nothing, and why
}

func newTally() *tally {
	return &tally{sum: sha256.New(), goids: map[int64]bool{}}
}

func (t *tally) add(data []byte, goid int64, thread int, err error) {
	after := syscall.Gettid()
	t.Lock()
	defer t.Unlock()
	if len(data) == 0 {
		t.empty = append(t.empty, fmt.Sprint(err))
		return
	}
	t.bytes += int64(len(data))
	t.sum.Write(data)
	t.calls = append(t.calls, len(data))
	t.goids[goid] = true
	if thread != after {
		t.threads = append(t.threads, [3]int{len(t.calls) - 1, thread, after})
	}
	if err != nil {
		t.half = append(t.half, []interface{}{len(data), err.Error()})
	}
}

func (t *tally) tell() map[string]interface{} {
	t.Lock()
	defer t.Unlock()
	ids := []int64{}
	for id := range t.goids {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	return map[string]interface{}{
		"bytes": t.bytes, "sha256": hex.EncodeToString(t.sum.Sum(nil)), "calls": t.calls,
		"goids": ids, "threads": t.threads, "half": t.half, "empty": t.empty,
	}
}

// A meter is a connection that keeps count of what is read from it and written to it.
type meter struct {
	net.Conn
	name    string
	fd      int // -1: it has none
	in, out *tally
	ends    [2]string    // its addresses
	writes  sync.RWMutex // held by each Write: what it wrote may have arrived before it is counted
}

var (
	metersLock sync.Mutex
	meters     []*meter
)

// measured puts a meter on conn, whose bytes travel over `over`.
func measured(name string, conn net.Conn, over net.Conn) *meter {
	m := &meter{Conn: conn, name: name, fd: descriptor(over), in: newTally(), out: newTally()}
	m.ends = [2]string{conn.LocalAddr().String(), conn.RemoteAddr().String()}
	metersLock.Lock()
	defer metersLock.Unlock()
	meters = append(meters, m)
	return m
}

func (m *meter) Read(b []byte) (int, error) {
	id, thread := goid(), syscall.Gettid()
	n, err := m.Conn.Read(b)
	m.in.add(b[:n], id, thread, err)
	return n, err
}

func (m *meter) Write(b []byte) (int, error) {
	m.writes.RLock()
	defer m.writes.RUnlock()
	id, thread := goid(), syscall.Gettid()
	n, err := m.Conn.Write(b)
	m.out.add(b[:n], id, thread, err)
	return n, err
}

// report tells of every connection.
func report() {
	stdoutLock.Lock()
	defer stdoutLock.Unlock()
	out := json.NewEncoder(os.Stdout)
	for _, m := range meters {
		m.writes.Lock()
		must(out.Encode(map[string]interface{}{
			"conn": m.name, "fd": m.fd, "in": m.in.tell(), "out": m.out.tell(),
			"laddr": m.ends[0], "raddr": m.ends[1],
		}))
	}
	must(out.Encode(map[string]interface{}{"go": runtime.Version(), "connections": len(meters)}))
}

// goid is the number of the running goroutine, as a traceback names it.
func goid() int64 {
	var buf [64]byte
	words := bytes.Fields(buf[:runtime.Stack(buf[:], false)])
	id, err := strconv.ParseInt(string(words[1]), 10, 64)
	must(err)
	return id
}

// descriptor is the number of a connection's descriptor, -1 if it has none.
func descriptor(c net.Conn) int {
	s, ok := c.(syscall.Conn)
	if !ok {
		return -1
	}
	raw, err := s.SyscallConn()
	must(err)
	fd := -1
	must(raw.Control(func(n uintptr) { fd = int(n) }))
	return fd
}
