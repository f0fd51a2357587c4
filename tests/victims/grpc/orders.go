// SPDX-License-Identifier: MIT

// orders is a client or a server of gRPC: orders server PORT CERT KEY, or orders client PORT CERT
// ROUNDS. Messages are bytes. The client tells of each call in a line of JSON when its stdin says so.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/status"
)

type raw struct{}

func (raw) Marshal(v interface{}) ([]byte, error) { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v interface{}) error {
	*v.(*[]byte) = append([]byte{}, data...)
	return nil
}
func (raw) Name() string { return "raw" }

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A server: the method's name says what it does with the stream.
func answer(_ interface{}, s grpc.ServerStream) error {
	path, _ := grpc.MethodFromServerStream(s)
	var m []byte
	for n := 0; ; n++ {
		err := s.RecvMsg(&m)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch path[strings.LastIndex(path, "/")+1:] {
		case "Fail":
			return status.Error(codes.FailedPrecondition, "100% täglich")
		case "Watch":
			for i := 0; i < 200; i++ {
				part := make([]byte, i)
				if err := s.SendMsg(&part); err != nil {
					return err
				}
				time.Sleep(time.Millisecond)
			}
		case "Put":
		default:
			if err := s.SendMsg(&m); err != nil {
				return err
			}
		}
	}
}

func serve(port, cert, key string) {
	tls, err := credentials.NewServerTLSFromFile(cert, key)
	must(err)
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	must(err)
	must(grpc.NewServer(grpc.Creds(tls), grpc.UnknownServiceHandler(answer)).Serve(l))
}

type told struct {
	Method  string `json:"method"`
	Status  int    `json:"status"`
	Message string `json:"message"`
	Sent    []int  `json:"sent"`
	Got     []int  `json:"got"`
}

func call(cc *grpc.ClientConn, method string, sizes ...int) {
	t := told{Method: "shop.v1.Orders/" + method, Sent: []int{}, Got: []int{}}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/"+t.Method)
	must(err)
	for _, n := range sizes {
		m := make([]byte, n)
		must(s.SendMsg(&m))
		t.Sent = append(t.Sent, n)
	}
	must(s.CloseSend())
	for {
		var m []byte
		err = s.RecvMsg(&m)
		if err != nil {
			break
		}
		t.Got = append(t.Got, len(m))
	}
	if err != io.EOF {
		t.Status, t.Message = int(status.Code(err)), status.Convert(err).Message()
	}
	line, _ := json.Marshal(t)
	fmt.Println(string(line))
}

func ask(port, cert, rounds string) {
	bufio.NewReader(os.Stdin).ReadString('\n')
	tls, err := credentials.NewClientTLSFromFile(cert, "localhost")
	must(err)
	cc, err := grpc.Dial("127.0.0.1:"+port, grpc.WithTransportCredentials(tls),
		grpc.WithDefaultCallOptions(grpc.CallContentSubtype("raw")))
	must(err)
	n, err := strconv.Atoi(rounds)
	must(err)
	for i := 0; i < n; i++ {
		call(cc, "Get", i*1000)
		call(cc, "Fail", 5)
		call(cc, "Put", 1, 0, 100000, 70000)
		call(cc, "Chat", 1, 2, 3, 20000, 4, 5)
		call(cc, "Watch", 0)
	}
}

func main() {
	encoding.RegisterCodec(raw{})
	if os.Args[1] == "server" {
		serve(os.Args[2], os.Args[3], os.Args[4])
	} else {
		ask(os.Args[2], os.Args[3], os.Args[4])
	}
}
