package main

import (
	"bytes"
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/edge/host/wireguard/process"
)

// The verb serves its socket until it is told to stop, and only once.
func TestWGServesUntilToldToStop(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "off") // the test keeps its own
	dir := filepath.Join(t.TempDir(), "run")
	var out, errw bytes.Buffer
	code := make(chan int)
	go func() { code <- run([]string{"wg", "--run-dir", dir}, &out, &errw) }()
	var c net.Conn
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		var err error
		if c, err = net.Dial("unix", filepath.Join(dir, process.Socket)); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	defer c.Close()
	var second bytes.Buffer
	if got := run([]string{"wg", "--run-dir", dir}, &out, &second); got != 1 || !strings.Contains(second.String(), "stop it first") {
		t.Errorf("a second process: exit code %d: %s", got, second.String())
	}
	for _, op := range []string{process.List, process.Stop} {
		if err := json.NewEncoder(c).Encode(process.Request{Op: op}); err != nil {
			t.Fatal(err)
		}
		var r process.Reply
		if err := json.NewDecoder(c).Decode(&r); err != nil || r.Error != "" || len(r.Devices) != 0 {
			t.Errorf("%s: %+v, %v", op, r, err)
		}
	}
	if got := <-code; got != 0 {
		t.Errorf("exit code %d: %s", got, errw.String())
	}
}
