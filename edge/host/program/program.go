// Package program runs the programs of the operating system that the Linux host
// is built on: by absolute path, without a shell, within a time limit, and with
// what they complained about in the error.
package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// maxComplaint bounds how much of a program's output an error carries.
const maxComplaint = 2000

// dirs is where system programs are, whatever PATH says.
var dirs = []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"}

// Find returns the absolute path of a program: in the given directories first,
// then where system programs are.
func Find(name string, first ...string) (string, error) {
	for _, dir := range append(append([]string{}, first...), dirs...) {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: program %s is not installed; install its package", inventory.ErrNotFound, name)
}

// Run runs the program at path for at most limit and returns its standard
// output. The error names the program and holds what it wrote, so no secret may
// be among args or in what the program repeats.
func Run(ctx context.Context, limit time.Duration, stdin []byte, path string, args ...string) ([]byte, error) {
	name := filepath.Base(path)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s took over %s", name, limit))
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + strings.Join(dirs, ":"), "LC_ALL=C.UTF-8", "HOME=/"}
	cmd.WaitDelay = time.Second // a grandchild may hold the pipes
	err := cmd.Run()
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return out.Bytes(), nil
	case ctx.Err() != nil:
		return out.Bytes(), fmt.Errorf("run %s: %w", name, context.Cause(ctx))
	}
	said := strings.TrimSpace(complaint.String())
	if said == "" {
		said = strings.TrimSpace(out.String())
	}
	if len(said) > maxComplaint {
		said = said[:maxComplaint] + "…"
	}
	return out.Bytes(), fmt.Errorf("run %s: %w: %s", name, err, said)
}
