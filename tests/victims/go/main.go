// SPDX-License-Identifier: MIT

// Talk is a program of Go that talks TLS in many ways, checks every byte it gets, and tells on
// stdout, one JSON object a line, what went over each connection, for the tests to compare with what
// tlsscope saw.
//
//	talk [options] KIND server|client|both ADDRESS    KIND: raw, h1, h2, torture
//	talk [options] KIND                               KIND: the others, alone in one process
//
// A server says "listening", then serves until SIGTERM. -wait: a client begins when a line comes on
// stdin. Builds with the standard library alone, from Go 1.15 on.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

var (
	workers = flag.Int("n", 200, "goroutines")
	rounds  = flag.Int("m", 4, "messages each")
	wait    = flag.Bool("wait", false, "begin when a line comes on stdin")
)

type kind struct {
	server func(address string, stop <-chan os.Signal)
	client func(address string)
}

var talks = map[string]kind{
	"raw":     {rawServer, rawClient},
	"h1":      {h1Server, h1Client},
	"h2":      {h2Server, h2Client},
	"torture": {tortureServer, tortureClient},
}

var alone = map[string]func(){
	"ends":    ends,
	"fds":     fds,
	"stdin":   stdin,
	"stack":   stacks,
	"park":    park,
	"layers":  layers,
	"reused":  reused,
	"dropped": dropped,
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: talk [options] KIND [server|client|both ADDRESS]")
	os.Exit(2)
}

// untilTold waits for the line on stdin that -wait asks for.
func untilTold() {
	if *wait {
		say("waiting")
		if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
			wrong("stdin: %v", err)
		}
	}
}

func main() {
	flag.Parse()
	if f := alone[flag.Arg(0)]; f != nil && flag.NArg() == 1 {
		untilTold()
		f()
		report()
		return
	}
	k, known := talks[flag.Arg(0)]
	if !known || flag.NArg() != 3 {
		usage()
	}
	address, stop := flag.Arg(2), make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	switch flag.Arg(1) {
	case "server":
		k.server(address, stop)
	case "client":
		untilTold()
		k.client(address)
	case "both":
		done := make(chan bool)
		go func() {
			k.server(address, stop)
			close(done)
		}()
		<-listening
		untilTold()
		k.client(address)
		stop <- syscall.SIGTERM
		<-done
	default:
		usage()
	}
	report()
}
