package upgrade

import (
	"bytes"
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/gnoi"
	"github.com/wardnet/wardnet/edge/release"
	"github.com/wardnet/wardnet/inventory"
)

// slot is a device's end of a transfer: it keeps what came, and breaks at will.
type slot struct {
	gnoi.UnimplementedOSServer
	have     []byte
	breakAt  int // ends the call once so many bytes are there; 0: never
	starts   []uint64
	answer   error // to everything
	longest  int
	revertMS uint32
}

func (s *slot) Install(stream gnoi.OS_InstallServer) error {
	req, err := stream.Recv()
	if err != nil {
		return err
	}
	if s.answer != nil {
		return s.answer
	}
	size := int(req.GetTransfer().GetSizeBytes())
	s.starts = append(s.starts, uint64(len(s.have)))
	if err := stream.Send(&gnoi.InstallResponse{Offset: uint64(len(s.have)), Installed: len(s.have) == size}); err != nil {
		return err
	}
	for len(s.have) < size {
		req, err := stream.Recv()
		if err != nil {
			return err
		}
		if int(req.GetOffset()) != len(s.have) {
			return status.Errorf(codes.InvalidArgument, "piece at %d, expected at %d", req.GetOffset(), len(s.have))
		}
		s.longest = max(s.longest, len(req.GetContent()))
		s.have = append(s.have, req.GetContent()...)
		if s.breakAt != 0 && len(s.have) >= s.breakAt {
			s.breakAt = 0
			return status.Error(codes.Unavailable, "the line went")
		}
	}
	return stream.Send(&gnoi.InstallResponse{Offset: uint64(size), Installed: true})
}

func (s *slot) Verify(context.Context, *gnoi.VerifyRequest) (*gnoi.VerifyResponse, error) {
	return &gnoi.VerifyResponse{
		Version: "1.0", Pending: "p", FailedCommit: "f", Failure: "why",
		Slots: []*gnoi.Slot{{Name: "base", Release: &gnoi.Release{Goarch: "arm64"}, Confirmed: true}, {Name: "a", Release: &gnoi.Release{Goarch: "amd64"}, Running: true, Confirmed: true}},
	}, s.answer
}

func (s *slot) Activate(_ context.Context, req *gnoi.ActivateRequest) (*gnoi.ActivateResponse, error) {
	s.revertMS = req.GetRevertMs()
	return &gnoi.ActivateResponse{}, s.answer
}

func (s *slot) Confirm(context.Context, *gnoi.ConfirmRequest) (*gnoi.ConfirmResponse, error) {
	return &gnoi.ConfirmResponse{}, s.answer
}

func (s *slot) serve(t *testing.T, bits inventory.BitRate) *Remote {
	t.Helper()
	ln := bufconn.Listen(1 << 20)
	srv := grpc.NewServer()
	gnoi.RegisterOSServer(srv, s)
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(srv.Stop)
	conn, err := grpc.NewClient("passthrough:///slot", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return NewRemote(conn, bits)
}

func TestTransferGoesOnWhereItBroke(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 40<<10) // 640 KiB
	s := &slot{breakAt: 300 << 10}
	a := s.serve(t, inventory.Gbps)
	rel := release.Release{Version: "2", GOOS: "linux", GOARCH: "amd64", Size: int64(len(content)), SHA256: sumOf(content)}
	var last int64
	install := func() error {
		return a.Install(t.Context(), rel, bytes.NewReader(content), func(n int64) { last = n })
	}
	if err := install(); !errors.Is(err, edge.ErrUnreachable) {
		t.Fatalf("a broken transfer: %v", err)
	}
	for range 2 { // the second finds everything there
		if err := install(); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(s.have, content) || len(s.starts) != 3 || s.starts[1] < 300<<10 || s.starts[2] != uint64(len(content)) || last != int64(len(content)) || s.longest > piece {
		t.Errorf("starts %v, %d of %d bytes, %d told, pieces of %d", s.starts, len(s.have), len(content), last, s.longest)
	}
}

func TestTransferKeepsToItsRate(t *testing.T) {
	content := make([]byte, 160<<10)
	s := &slot{}
	a := s.serve(t, 2*inventory.Mbps)
	rel := release.Release{Version: "2", GOOS: "linux", GOARCH: "amd64", Size: int64(len(content)), SHA256: sumOf(content)}
	begin := time.Now()
	if err := a.Install(t.Context(), rel, bytes.NewReader(content), func(int64) {}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < 450*time.Millisecond { // 128 KiB after the first piece, at 250 kB/s
		t.Errorf("160 KiB at 2 Mbit/s took %s", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s.have = nil
	if err := a.Install(ctx, rel, bytes.NewReader(content), func(int64) {}); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, edge.ErrUnreachable) { // the device may see it first
		t.Errorf("given up: %v", err)
	}
}

// Every refusal of a device becomes the error that decides what comes next.
func TestRemoteErrors(t *testing.T) {
	s := &slot{}
	a := s.serve(t, inventory.Gbps)
	r, err := a.Verify(t.Context())
	if want := (Report{Version: "1.0", GOARCH: "amd64", Confirmed: true, Pending: "p", Failed: "f", Failure: "why"}); err != nil || r != want {
		t.Errorf("%+v, %v", r, err)
	}
	if err := a.Activate(t.Context(), "2", "c", 90*time.Second); err != nil || s.revertMS != 90_000 {
		t.Errorf("%d ms, %v", s.revertMS, err)
	}
	rel := release.Release{Version: "2", Size: 1}
	for code, want := range map[codes.Code]error{
		codes.InvalidArgument: edge.ErrRejected, codes.FailedPrecondition: edge.ErrRejected, codes.PermissionDenied: edge.ErrRejected,
		codes.ResourceExhausted: edge.ErrRejected, codes.Unimplemented: edge.ErrRejected,
		codes.Aborted: ErrBusy, codes.Unavailable: edge.ErrUnreachable,
	} {
		s.answer = status.Error(code, "no")
		_, verify := a.Verify(t.Context())
		for op, err := range map[string]error{
			"verify": verify, "activate": a.Activate(t.Context(), "2", "c", time.Minute), "confirm": a.Confirm(t.Context(), "c"),
			"install": a.Install(t.Context(), rel, bytes.NewReader([]byte{1}), func(int64) {}),
		} {
			if !errors.Is(err, want) {
				t.Errorf("%s, %s: %v", code, op, err)
			}
		}
	}
	s.answer = status.Error(codes.DataLoss, "damaged")
	if err := a.Confirm(t.Context(), "c"); err == nil || errors.Is(err, edge.ErrRejected) || errors.Is(err, edge.ErrUnreachable) {
		t.Errorf("data loss: %v", err)
	}
}
