package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/wardnet/wardnet/edge/gnoi"
	"github.com/wardnet/wardnet/edge/release"
	"github.com/wardnet/wardnet/inventory"
)

// Register adds the OS service to s.
func (u *Upgrade) Register(s *grpc.Server) { gnoi.RegisterOSServer(s, &server{upgrade: u}) }

// server speaks gnoi.OS for an upgrade.
type server struct {
	gnoi.UnimplementedOSServer
	upgrade *Upgrade
}

// Install implements gnoi.OSServer.
func (s *server) Install(stream gnoi.OS_InstallServer) error { return toStatus(s.install(stream)) }

func (s *server) install(stream gnoi.OS_InstallServer) (err error) {
	req, err := stream.Recv()
	if err != nil {
		return err
	}
	if req.GetTransfer() == nil || len(req.GetContent()) > 0 {
		return fmt.Errorf("%w: install: the first message carries the release, and no content", inventory.ErrInvalid)
	}
	t, err := s.upgrade.begin(fromWire(req.GetTransfer()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.end()) }()
	if err := stream.Send(&gnoi.InstallResponse{Offset: uint64(t.safe)}); err != nil {
		return err
	}
	for !t.complete() {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: install: the transfer ended at byte %d of %d; go on from there", inventory.ErrInvalid, t.written, t.r.Size)
		}
		if err != nil {
			return err
		}
		if req.GetTransfer() != nil {
			return fmt.Errorf("%w: install: a second release in one transfer", inventory.ErrInvalid)
		}
		moved, err := t.write(req.GetOffset(), req.GetContent())
		if err != nil {
			return err
		}
		if moved && !t.complete() {
			if err := stream.Send(&gnoi.InstallResponse{Offset: uint64(t.safe)}); err != nil {
				return err
			}
		}
	}
	if err := t.finish(); err != nil {
		return err
	}
	s.upgrade.deps.Log.InfoContext(stream.Context(), "agent version installed", "version", t.r.Version, "slot", t.slot)
	return stream.Send(&gnoi.InstallResponse{Offset: uint64(t.r.Size), Installed: true})
}

// Activate implements gnoi.OSServer.
func (s *server) Activate(ctx context.Context, req *gnoi.ActivateRequest) (*gnoi.ActivateResponse, error) {
	t := Try{Version: req.GetVersion(), Commit: req.GetCommitId(), Revert: time.Duration(req.GetRevertMs()) * time.Millisecond}
	if err := s.upgrade.activate(ctx, t); err != nil {
		return nil, toStatus(err)
	}
	return &gnoi.ActivateResponse{}, nil
}

// Confirm implements gnoi.OSServer.
func (s *server) Confirm(ctx context.Context, req *gnoi.ConfirmRequest) (*gnoi.ConfirmResponse, error) {
	if err := s.upgrade.confirm(ctx, req.GetCommitId()); err != nil {
		return nil, toStatus(err)
	}
	return &gnoi.ConfirmResponse{}, nil
}

// Verify implements gnoi.OSServer.
func (s *server) Verify(context.Context, *gnoi.VerifyRequest) (*gnoi.VerifyResponse, error) {
	u := s.upgrade
	u.mu.Lock()
	defer u.mu.Unlock()
	j := u.journal
	out := &gnoi.VerifyResponse{Version: u.version(), Slots: []*gnoi.Slot{{
		Name: Base, Running: u.deps.Running == Base, Confirmed: true, Release: &gnoi.Release{Goos: runtime.GOOS, Goarch: runtime.GOARCH},
	}}}
	if u.deps.Running == Base {
		out.Slots[0].Release.Version = u.deps.Version
	}
	for _, name := range []string{slotA, slotB} {
		slot, ok := j.Slots[name]
		if !ok {
			continue
		}
		w := &gnoi.Slot{Name: name, Release: toWire(slot.Release), Running: u.deps.Running == name, Confirmed: slot.Confirmed, ReceivedBytes: uint64(slot.Received)}
		if slot.Installed {
			w.ReceivedBytes = uint64(slot.Release.Size)
		}
		out.Slots = append(out.Slots, w)
	}
	if j.Try != nil {
		out.Pending = j.Try.Commit
	}
	if f := j.Failed; f != nil {
		out.FailedCommit, out.FailedVersion, out.Failure = f.Commit, f.Version, f.Why
	}
	return out, nil
}

func fromWire(r *gnoi.Release) release.Release {
	size := int64(0) // refused as such
	if r.GetSizeBytes() <= release.MaxSize {
		size = int64(r.GetSizeBytes())
	}
	return release.Release{
		Version: r.GetVersion(), GOOS: r.GetGoos(), GOARCH: r.GetGoarch(), Size: size,
		SHA256: r.GetSha256(), KeyID: r.GetKeyId(), Signature: r.GetSignature(),
	}
}

func toWire(r release.Release) *gnoi.Release {
	return &gnoi.Release{
		Version: r.Version, Goos: r.GOOS, Goarch: r.GOARCH, SizeBytes: uint64(r.Size),
		Sha256: r.SHA256, KeyId: r.KeyID, Signature: r.Signature,
	}
}

// toStatus is the one place where an error becomes a gRPC code.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	code := codes.Internal
	switch {
	case errors.Is(err, ErrNoRoom):
		code = codes.ResourceExhausted
	case errors.Is(err, ErrDamaged):
		code = codes.DataLoss
	case errors.Is(err, release.ErrUntrusted):
		code = codes.PermissionDenied
	case errors.Is(err, inventory.ErrInvalid):
		code = codes.InvalidArgument
	case errors.Is(err, ErrBusy):
		code = codes.Aborted
	case errors.Is(err, ErrRefused):
		code = codes.FailedPrecondition
	case errors.Is(err, ErrNotYet):
		code = codes.Unavailable
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		code = status.FromContextError(err).Code()
	}
	return status.Error(code, err.Error())
}
