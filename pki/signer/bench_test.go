package signer

import (
	"context"
	"crypto/x509"
	"log/slog"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// What a device certificate costs in processor time of both ends, journal and
// socket included: the two share this process here.
func BenchmarkIssueOverSocket(b *testing.B) {
	s, _ := created(b)
	path := filepath.Join(b.TempDir(), "s.sock")
	ctx, cancel := context.WithCancel(b.Context())
	log := slog.New(slog.DiscardHandler)
	l, err := Listen(ctx, path, nil, log)
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, s, log) }()
	defer func() { cancel(); <-done }()
	c := NewClient(path)
	defer c.Close()
	o := Order{KeyID: key(b, s, Devices), Kind: DeviceLeaf, CSR: request(b, x509.CertificateRequest{URIs: uris(b, "spiffe://"+domain+"/device/e-1")}, nil)}
	o.NotAfter = time.Now().Add(time.Hour)
	before := cpu(b)
	b.SetParallelism(4)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Issue(ctx, o); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "µs-cpu/op")
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
