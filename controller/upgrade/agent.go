package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/gnoi"
	"github.com/wardnet/wardnet/edge/release"
	"github.com/wardnet/wardnet/inventory"
)

// ErrBusy: the device does something else just now, such as a configuration on
// trial. Nothing was begun.
var ErrBusy = errors.New("device is busy")

// piece is how much of a binary one message carries, in bytes: a quarter of a
// second at 1 Mbit/s, so that a thin link is never blocked for long.
const piece = 32 << 10

// Remote is the [Agent] at the other end of a connection (gnoi.OS).
type Remote struct {
	os   gnoi.OSClient
	rate inventory.BitRate
}

// NewRemote speaks with the agent behind conn, which stays the caller's. A
// transfer takes bits per second at most.
func NewRemote(conn grpc.ClientConnInterface, bits inventory.BitRate) *Remote {
	return &Remote{gnoi.NewOSClient(conn), bits}
}

// Verify implements [Agent].
func (a *Remote) Verify(ctx context.Context) (Report, error) {
	v, err := a.os.Verify(ctx, &gnoi.VerifyRequest{})
	if err != nil {
		return Report{}, told("ask the agent for its versions", err)
	}
	r := Report{Version: v.GetVersion(), Pending: edge.CommitID(v.GetPending()), Failed: edge.CommitID(v.GetFailedCommit()), Failure: v.GetFailure()}
	for _, s := range v.GetSlots() {
		if s.GetRunning() {
			r.Confirmed, r.GOARCH = s.GetConfirmed(), s.GetRelease().GetGoarch()
		}
	}
	return r, nil
}

// Activate implements [Agent].
func (a *Remote) Activate(ctx context.Context, version string, id edge.CommitID, revert time.Duration) error {
	_, err := a.os.Activate(ctx, &gnoi.ActivateRequest{Version: version, CommitId: string(id), RevertMs: uint32(revert.Milliseconds())})
	return told("try agent "+version, err)
}

// Confirm implements [Agent].
func (a *Remote) Confirm(ctx context.Context, id edge.CommitID) error {
	_, err := a.os.Confirm(ctx, &gnoi.ConfirmRequest{CommitId: string(id)})
	return told(fmt.Sprintf("confirm commit %q", id), err)
}

// Install implements [Agent].
func (a *Remote) Install(ctx context.Context, r release.Release, binary io.ReaderAt, sent func(int64)) error {
	most := 5*time.Minute + 4*time.Duration(float64(r.Size*8)/float64(a.rate)*float64(time.Second))
	ctx, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("%w: the transfer took over %s", edge.ErrUnreachable, most))
	defer cancel()
	err := a.transfer(ctx, r, binary, sent)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("install agent %s: %w", r, context.Cause(ctx))
	}
	return told(fmt.Sprintf("install agent %s", r), err)
}

func (a *Remote) transfer(ctx context.Context, r release.Release, binary io.ReaderAt, sent func(int64)) error {
	stream, err := a.os.Install(ctx)
	if err != nil {
		return err
	}
	err = stream.Send(&gnoi.InstallRequest{Transfer: &gnoi.Release{
		Version: r.Version, Goos: r.GOOS, Goarch: r.GOARCH, SizeBytes: uint64(r.Size), Sha256: r.SHA256, KeyId: r.KeyID, Signature: r.Signature,
	}})
	if err != nil && !errors.Is(err, io.EOF) { // the reason of an EOF is in the answer
		return err
	}
	first, err := stream.Recv()
	if err != nil || first.GetInstalled() {
		return err
	}
	if first.GetOffset() > uint64(r.Size) {
		return fmt.Errorf("%w: the device wants byte %d of %d", edge.ErrRejected, first.GetOffset(), r.Size)
	}
	sent(int64(first.GetOffset()))
	sctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		defer stop()
		ended <- hear(stream, sent)
	}()
	feedErr := a.feed(sctx, stream, binary, int64(first.GetOffset()), r.Size)
	if feedErr != nil {
		stop()
	}
	// The device's word counts: a send fails because it has ended the call.
	select {
	case err = <-ended:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(a.patience(feedErr)):
		return errors.Join(feedErr, fmt.Errorf("%w: no word of what was sent", edge.ErrUnreachable))
	}
}

// patience is how long the device's word is waited for after the last piece.
func (a *Remote) patience(failed error) time.Duration {
	if failed != nil {
		return 5 * time.Second
	}
	return 2 * time.Minute // it syncs and checks the whole
}

// hear reads what the device says until everything is installed.
func hear(stream gnoi.OS_InstallClient, sent func(int64)) error {
	for {
		res, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: the device ended the transfer without a word", edge.ErrUnreachable)
		case err != nil:
			return err
		}
		sent(int64(res.GetOffset()))
		if res.GetInstalled() {
			return nil
		}
	}
}

// feed sends binary from offset on, no faster than the rate.
func (a *Remote) feed(ctx context.Context, stream gnoi.OS_InstallClient, binary io.ReaderAt, offset, size int64) error {
	lim := rate.NewLimiter(rate.Limit(float64(a.rate)/8), piece)
	for offset < size {
		b := make([]byte, min(piece, size-offset)) // gRPC may still hold the one before
		if _, err := binary.ReadAt(b, offset); err != nil {
			return fmt.Errorf("read the agent binary: %w", err)
		}
		if err := lim.WaitN(ctx, len(b)); err != nil {
			return err
		}
		if err := stream.Send(&gnoi.InstallRequest{Offset: uint64(offset), Content: b}); err != nil {
			return err
		}
		offset += int64(len(b))
	}
	return nil
}

// told is the one place where a device's gRPC status becomes an error of ours.
func told(op string, err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return fmt.Errorf("%s: %w", op, err)
	}
	switch st.Code() {
	case codes.Unimplemented:
		return fmt.Errorf("%s: %w: its agent is too old to upgrade itself; install a newer one on the device by hand", op, edge.ErrRejected)
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange, codes.NotFound, codes.AlreadyExists,
		codes.PermissionDenied, codes.Unauthenticated, codes.ResourceExhausted:
		return fmt.Errorf("%s: %w: %s (%s)", op, edge.ErrRejected, st.Message(), st.Code())
	case codes.Aborted:
		return fmt.Errorf("%s: %w: %s", op, ErrBusy, st.Message())
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled: // Canceled: the session was superseded or closed
		return fmt.Errorf("%s: %w: %s (%s)", op, edge.ErrUnreachable, st.Message(), st.Code())
	}
	return fmt.Errorf("%s: %s (%s)", op, st.Message(), st.Code())
}
