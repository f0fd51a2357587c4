// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"io/ioutil"
	"log"
	"net"
	"net/http"
	"os"
	"sync/atomic"
)

// answer checks the message in a request and sends the one that belongs to it.
func answer(w http.ResponseWriter, r *http.Request) {
	number, err := receive(r.Body)
	must(err)
	m := message(number | reply)
	if number%2 == 0 {
		w.Header().Set("Content-Length", fmt.Sprint(len(m)))
	}
	_, err = w.Write(m)
	must(err)
}

// ask sends each goroutine's messages, one after the other.
func ask(address string, client func(worker int) *http.Client) {
	together(*workers, func(i int) {
		for k := 0; k < *rounds; k++ {
			number := uint32(i**rounds + k)
			var body io.Reader = bytes.NewReader(message(number))
			if number%3 == 0 {
				body = ioutil.NopCloser(body) // of unknown length
			}
			r, err := client(i).Post("https://"+address+"/", "text/plain", body)
			must(err)
			got, err := receive(r.Body)
			must(err)
			if got != number|reply || r.StatusCode != 200 {
				wrong("the answer %x came to message %x, status %d", got, number, r.StatusCode)
			}
			rest, err := ioutil.ReadAll(r.Body)
			must(err)
			if len(rest) > 0 {
				wrong("%d bytes after the answer to %x", len(rest), number)
			}
			r.Body.Close()
		}
	})
}

// A measuredListener puts TLS and a meter on what it accepts. net/http then speaks HTTP/1.1.
type measuredListener struct {
	net.Listener
	config *tls.Config
	count  int32
}

func (l *measuredListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	n := atomic.AddInt32(&l.count, 1) - 1
	return measured(fmt.Sprintf("server %d", n), tls.Server(conn, l.config), conn), nil
}

func webServer(address string, stop <-chan os.Signal, run func(*http.Server, net.Listener) error) {
	l := listen(address)
	server := &http.Server{Handler: http.HandlerFunc(answer), ErrorLog: log.New(os.Stderr, "", 0)}
	done := make(chan bool)
	go func() {
		<-stop
		server.Shutdown(context.Background())
		close(done)
	}()
	if err := run(server, l); err != http.ErrServerClosed {
		must(err)
	}
	<-done
}

func h1Server(address string, stop <-chan os.Signal) {
	webServer(address, stop, func(s *http.Server, l net.Listener) error {
		return s.Serve(&measuredListener{Listener: l, config: serverConfig()})
	})
}

func h1Client(address string) {
	var count int32
	transport := &http.Transport{MaxIdleConnsPerHost: *workers, MaxIdleConns: *workers}
	transport.DialTLS = func(network, address string) (net.Conn, error) {
		conn, err := net.Dial(network, address)
		if err != nil {
			return nil, err
		}
		n := int(atomic.AddInt32(&count, 1) - 1)
		return measured(fmt.Sprintf("client %d", n), tls.Client(conn, clientConfig(n)), conn), nil
	}
	ask(address, func(int) *http.Client { return &http.Client{Transport: transport} })
	transport.CloseIdleConnections()
}

func h2Server(address string, stop <-chan os.Signal) {
	webServer(address, stop, func(s *http.Server, l net.Listener) error {
		s.TLSConfig = serverConfig()
		return s.ServeTLS(l, "", "")
	})
}

// h2Client: fifty goroutines share a connection.
func h2Client(address string) {
	transports := make([]*http.Transport, (*workers+49)/50)
	clients := make([]*http.Client, len(transports))
	for i := range transports {
		transports[i] = &http.Transport{TLSClientConfig: clientConfig(i), ForceAttemptHTTP2: true,
			MaxConnsPerHost: 1}
		clients[i] = &http.Client{Transport: transports[i]}
	}
	ask(address, func(worker int) *http.Client { return clients[worker/50] })
	for _, t := range transports {
		t.CloseIdleConnections()
	}
}
