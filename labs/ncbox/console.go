package ncbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

const (
	// endOfMessage ends each message of NETCONF 1.0 (RFC 6242 §4.3).
	endOfMessage = "]]>]]>"
	// apart is the pause after our hello: what netconfd (yuma123 2.13) reads in one
	// piece with it lies until more comes.
	apart = 100 * time.Millisecond
	// askLimit bounds the wait for all answers.
	askLimit = 20 * time.Second
)

// Ask sends operations, each the content of an rpc element, as somebody at the
// device's own console, and gives the answers. An answer with an rpc-error is an
// error.
func (b *Box) Ask(ctx context.Context, operations ...string) ([]string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, askLimit, fmt.Errorf("netconfd does not answer within %s", askLimit))
	defer cancel()
	cmd := exec.CommandContext(ctx, b.sub, "--ncxserver-sockname="+b.socket())
	cmd.Env = []string{"SSH_CONNECTION=127.0.0.1 1 127.0.0.1 " + b.port, "USER=" + User}
	cmd.Dir = b.dir
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start NETCONF's subsystem: %w", err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	hello := `<hello xmlns="urn:ietf:params:xml:ns:netconf:base:1.0"><capabilities><capability>urn:ietf:params:netconf:base:1.0</capability></capabilities></hello>`
	if _, err := message(out); err != nil {
		return nil, errors.Join(context.Cause(ctx), err)
	}
	if _, err := io.WriteString(in, hello+endOfMessage); err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(apart):
	}
	var answers []string
	for i, op := range operations {
		rpc := fmt.Sprintf(`<rpc message-id="%d" xmlns="urn:ietf:params:xml:ns:netconf:base:1.0">%s</rpc>`, i+1, op)
		if _, err := io.WriteString(in, rpc+endOfMessage); err != nil {
			return answers, err
		}
		got, err := message(out)
		if err != nil {
			return answers, errors.Join(context.Cause(ctx), err)
		}
		if strings.Contains(got, "<rpc-error>") || strings.Contains(got, ":rpc-error>") {
			return answers, fmt.Errorf("netconfd refuses %s: %s", op, got)
		}
		answers = append(answers, got)
	}
	return answers, nil
}

// message reads up to the end of one.
func message(r io.Reader) (string, error) {
	var got []byte
	for one := make([]byte, 1); !bytes.HasSuffix(got, []byte(endOfMessage)); {
		n, err := r.Read(one)
		got = append(got, one[:n]...)
		if err != nil {
			return string(got), fmt.Errorf("read from NETCONF's subsystem: %w", err)
		}
	}
	return string(got[:len(got)-len(endOfMessage)]), nil
}
