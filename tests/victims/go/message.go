// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"time"
)

const (
	cell   = 16 // bytes
	header = 32
	reply  = 0x8000000 // added to a message's number, it is the answer's
)

const digits = "0123456789abcdef"

// fill makes b the bytes from pos on of the endless text of `tag`: cells that carry the tag and their
// own number, so that no piece of it can be taken for another.
func fill(b []byte, tag uint32, pos int64) {
	var c [cell]byte
	for i := 0; i < len(b); {
		n := uint32(pos / cell)
		for k := 6; k >= 0; k-- {
			shift := uint(6-k) * 4
			c[k] = digits[tag>>shift&15]
			c[8+k] = digits[n>>shift&15]
		}
		c[7], c[15] = '.', '\n'
		k := copy(b[i:], c[pos%cell:])
		i += k
		pos += int64(k)
	}
}

// message makes the message of a number: a header that says how long it is, then its text.
func message(number uint32) []byte {
	b := make([]byte, header+sizeOf(number))
	copy(b, fmt.Sprintf("#%07x +%08x             \n", number, len(b)-header))
	fill(b[header:], number, 0)
	return b
}

// sizeOf says how long a message's text is: most are short, some fill several TLS records.
func sizeOf(number uint32) int {
	x := number * 2654435761
	switch x >> 24 % 40 {
	case 0:
		return 100000
	case 1, 2:
		return 16384 - header + int(x>>12%3) - 1
	case 3, 4, 5, 6:
		return int(x >> 12 % 20000)
	case 7:
		return 1
	}
	return int(x >> 12 % 1500)
}

// receive reads one message and checks all of it.
func receive(r io.Reader) (uint32, error) {
	head := make([]byte, header)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, err
	}
	number, err := strconv.ParseUint(string(head[1:8]), 16, 32)
	must(err)
	want := message(uint32(number))
	got := append(head, make([]byte, len(want)-header)...)
	if _, err := io.ReadFull(r, got[header:]); err != nil {
		return 0, fmt.Errorf("message %x: %v", number, err)
	}
	if !bytes.Equal(got, want) {
		wrong("message %x is not what was sent", number)
	}
	return uint32(number), nil
}

// inPieces writes b in pieces of many sizes, the least of one byte.
func inPieces(w io.Writer, b []byte, seed uint32) {
	sizes := []int{len(b), 1, 2, 333, 16384, 16385, 4096, len(b)}
	for i := int(seed); len(b) > 0; i++ {
		n := sizes[i%len(sizes)]
		if n > len(b) || n < 4 && len(b) > 200 && i > int(seed)+20 {
			n = len(b)
		}
		k, err := w.Write(b[:n])
		must(err)
		if k != n {
			wrong("%d bytes of %d written", k, n)
		}
		b = b[n:]
	}
}

func serverConfig() *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "talk"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"talk"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	must(err)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// clientConfig: every second connection is of TLS 1.2.
func clientConfig(number int) *tls.Config {
	c := &tls.Config{InsecureSkipVerify: true, ServerName: "talk"}
	if number%2 == 1 {
		c.MaxVersion = tls.VersionTLS12
	}
	return c
}
