package upgrade

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/wardnet/wardnet/edge/agent/disk"
	"github.com/wardnet/wardnet/edge/gnoi"
	"github.com/wardnet/wardnet/edge/release"
)

// small is a disk with little room; written counts down.
type small struct {
	OS
	free uint64
	full int
}

func (s *small) Room(string) (Room, error) { return Room{Free: s.free}, nil }

func (s *small) Append(name string, at int64) (disk.File, error) {
	f, err := s.OS.Append(name, at)
	return &smallFile{f, s}, err
}

type smallFile struct {
	disk.File
	s *small
}

func (f *smallFile) Write(b []byte) (int, error) {
	if f.s.full -= len(b); f.s.full < 0 {
		return 0, &os.PathError{Op: "write", Path: "slot", Err: syscall.ENOSPC}
	}
	return f.File.Write(b)
}

// serve is an agent's OS service in dir and a client of it; again starts it
// anew on the same directory.
func serve(t *testing.T, f factory, dir string, blobs Blobs) (*Upgrade, gnoi.OSClient) {
	t.Helper()
	u, err := Load(t.Context(), Deps{
		Dir: dir, Files: disk.OS{}, Blobs: blobs, Running: Base, Version: "0",
		Keys: func() map[string]crypto.PublicKey { return f.keys }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	u.every = 256 << 10
	ln, srv := bufconn.Listen(1<<20), grpc.NewServer()
	u.Register(srv)
	go srv.Serve(ln) //nolint:errcheck // ends with Stop
	t.Cleanup(srv.Stop)
	conn, err := grpc.NewClient("passthrough:edge", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return u, gnoi.NewOSClient(conn)
}

// send installs body as r, pieces at most (0: all), and gives the offset it
// began at and whether it was installed.
func send(ctx context.Context, os gnoi.OSClient, r release.Release, body []byte, pieces int) (from uint64, installed bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // cuts the transfer
	stream, err := os.Install(ctx)
	if err != nil {
		return 0, false, err
	}
	if err := stream.Send(&gnoi.InstallRequest{Transfer: toWire(r)}); err != nil {
		return 0, false, err
	}
	first, err := stream.Recv()
	if err != nil {
		return 0, false, err
	}
	from = first.GetOffset()
	if first.GetInstalled() {
		return from, true, nil
	}
	for at := from; at < uint64(len(body)); at += maxPiece {
		piece := body[at:min(at+maxPiece, uint64(len(body)))]
		if err := stream.Send(&gnoi.InstallRequest{Offset: at, Content: piece}); err != nil {
			break // Recv tells why
		}
		if pieces--; pieces == 0 {
			for safe := uint64(0); safe < at+uint64(len(piece)); {
				resp, err := stream.Recv()
				if err != nil {
					return from, false, err
				}
				safe = resp.GetOffset()
			}
			return from, false, nil
		}
	}
	for {
		resp, err := stream.Recv()
		if err != nil || resp.GetInstalled() {
			return from, resp.GetInstalled(), err
		}
	}
}

func TestInstallGoesOnWhereItStopped(t *testing.T) {
	f, dir := newFactory(t), t.TempDir()
	body := bytes.Repeat([]byte("0123456789abcdef"), 100_000) // 1.6 MB
	r := f.release(t, "2", body)
	u, client := serve(t, f, dir, OS{})
	if from, _, err := send(t.Context(), client, r, body, 3); err != nil || from != 0 {
		t.Fatalf("first part: from %d, %v", from, err)
	}
	// A new process finds what was acknowledged, also behind bytes that were not.
	for !u.installing.TryLock() { // the cut has reached the server
		time.Sleep(time.Millisecond)
	}
	part := slotPath(dir, slotA) + ".part"
	half, err := os.OpenFile(part, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	half.WriteString("not acknowledged") //nolint:errcheck
	half.Close()
	u, client = serve(t, f, dir, OS{})
	from, installed, err := send(t.Context(), client, r, body, 0)
	if err != nil || !installed || from != 3*maxPiece {
		t.Fatalf("second part: from %d, installed %v, %v", from, installed, err)
	}
	got, err := os.ReadFile(slotPath(dir, slotA))
	if err != nil || !bytes.Equal(got, body) {
		t.Fatalf("slot a: %d bytes, %v", len(got), err)
	}
	if info, err := os.Stat(slotPath(dir, slotA)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v; want 0700", info.Mode(), err)
	}
	if _, err := os.Stat(part); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the part is still there: %v", err)
	}
	if from, installed, err := send(t.Context(), client, r, body, 0); err != nil || !installed || from != uint64(len(body)) {
		t.Errorf("again: from %d, installed %v, %v", from, installed, err)
	}
	v, err := client.Verify(t.Context(), &gnoi.VerifyRequest{})
	if err != nil || v.GetVersion() != "0" || len(v.GetSlots()) != 2 || !v.GetSlots()[0].GetRunning() || v.GetSlots()[1].GetReceivedBytes() != uint64(len(body)) {
		t.Errorf("verify: %v, %v", v, err)
	}
	if slot := u.Settle(t.Context(), time.Now()); slot != Base {
		t.Errorf("slot %s would run without having been confirmed", slot)
	}
}

func TestInstallRefuses(t *testing.T) {
	f, other := newFactory(t), newFactory(t)
	body := bytes.Repeat([]byte("binary"), 1000)
	good := f.release(t, "2", body)
	arch, short, huge, forged := good, good, good, good
	arch.GOARCH = "mips"
	arch, _ = arch.Sign(f.key, "k1")
	short.Size--
	short, _ = short.Sign(f.key, "k1")
	huge.Size = release.MaxSize + 1
	forged.Version = "3"
	for name, tt := range map[string]struct {
		r    release.Release
		body []byte
		want codes.Code
		text string
	}{
		"another key":     {other.release(t, "2", body), body, codes.PermissionDenied, "signature"},
		"another version": {forged, body, codes.PermissionDenied, "signature"},
		"unsigned":        {release.Release{Version: "2", GOOS: "linux", GOARCH: "amd64", Size: 1, SHA256: good.SHA256}, body, codes.PermissionDenied, "not pinned"},
		"another machine": {arch, body, codes.FailedPrecondition, "linux/mips"},
		"too large":       {huge, body, codes.InvalidArgument, "size"},
		"longer":          {short, body, codes.InvalidArgument, "more than"},
		"changed on way":  {good, bytes.Repeat([]byte("bynarI"), 1000), codes.DataLoss, "send it again"},
		"truncated":       {good, body[:len(body)-1], codes.InvalidArgument, "ended at byte 5999"},
	} {
		dir := t.TempDir()
		_, client := serve(t, f, dir, OS{})
		stream, err := client.Install(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		stream.Send(&gnoi.InstallRequest{Transfer: toWire(tt.r)}) //nolint:errcheck // Recv tells
		stream.Send(&gnoi.InstallRequest{Content: tt.body})       //nolint:errcheck
		stream.CloseSend()                                        //nolint:errcheck
		for err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != tt.want || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v; want %s with %q", name, err, tt.want, tt.text)
		}
		if _, err := os.Stat(slotPath(dir, slotA)); err == nil {
			t.Errorf("%s: it was installed", name)
		}
	}
}

func TestInstallOneAtATime(t *testing.T) {
	f := newFactory(t)
	body := bytes.Repeat([]byte("binary"), 1000)
	_, client := serve(t, f, t.TempDir(), OS{})
	stream, err := client.Install(t.Context())
	if err == nil {
		err = stream.Send(&gnoi.InstallRequest{Transfer: toWire(f.release(t, "2", body))})
	}
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := send(t.Context(), client, f.release(t, "3", body), body, 0); status.Code(err) != codes.Aborted {
		t.Errorf("a second transfer: %v", err)
	}
	if err := stream.Send(&gnoi.InstallRequest{Content: body}); err != nil {
		t.Fatal(err)
	}
	if resp, err := stream.Recv(); err != nil || !resp.GetInstalled() {
		t.Errorf("the first transfer: %v, %v", resp, err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after it: %v", err)
	}
}

func TestInstallWithoutRoom(t *testing.T) {
	f := newFactory(t)
	body := bytes.Repeat([]byte("binary"), 200_000)
	r := f.release(t, "2", body)
	for name, disk := range map[string]*small{
		"known before": {free: spare, full: 1 << 30},
		"found late":   {free: 1 << 30, full: 600_000},
	} {
		dir := t.TempDir()
		u, client := serve(t, f, dir, disk)
		_, _, err := send(t.Context(), client, r, body, 0)
		if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "free some") {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "a", "*")); len(left) > 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
		disk.free, disk.full = 1<<30, 1<<30
		if _, installed, err := send(t.Context(), client, r, body, 0); err != nil || !installed {
			t.Errorf("%s: with room again: %v, %v", name, installed, err)
		}
		if err := u.checkSlot(slotA); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDamagedSlotGivesWay: a confirmed binary that rusts on the disk is not run;
// the one before it is, or what came with the box.
func TestDamagedSlotGivesWay(t *testing.T) {
	f, dir := newFactory(t), t.TempDir()
	u, client := serve(t, f, dir, OS{})
	for _, v := range []string{"1", "2"} {
		body := content(v)
		if _, installed, err := send(t.Context(), client, f.release(t, v, body), body, 0); err != nil || !installed {
			t.Fatal(installed, err)
		}
		slot, err := u.Journal().holding(v)
		if err != nil {
			t.Fatal(err)
		}
		j := u.Journal()
		j.Try = &Try{Commit: v, Slot: slot, Version: v}
		if j, err = j.confirm(v, nil); err == nil {
			err = u.keep(j)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	if slot := u.Settle(t.Context(), now); slot != slotB {
		t.Fatalf("slot %s runs, want b", slot)
	}
	for i, want := range []string{slotA, Base} {
		bad := slotPath(dir, []string{slotB, slotA}[i])
		text, err := os.ReadFile(bad)
		if err == nil {
			text[3] ^= 1
			err = os.WriteFile(bad, text, 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
		u, client = serve(t, f, dir, OS{}) // a new process
		if slot := u.Settle(t.Context(), now); slot != want {
			t.Fatalf("slot %s runs, want %s", slot, want)
		}
		if v, err := client.Verify(t.Context(), &gnoi.VerifyRequest{}); err != nil || !strings.Contains(v.GetFailure(), "binary is damaged") {
			t.Errorf("failure %q, %v", v.GetFailure(), err)
		}
	}
	// Another agent key means nothing here can be trusted any more.
	rotated := newFactory(t)
	u, _ = serve(t, rotated, dir, OS{})
	if slot := u.Settle(t.Context(), now); slot != Base {
		t.Errorf("slot %s runs under a key that is not pinned", slot)
	}
}
