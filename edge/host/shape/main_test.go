package shape

import (
	"os"
	"testing"

	"github.com/wardnet/wardnet/edge/host/hosttest"
)

// TestMain is also the WireGuard process of the boxes under test.
func TestMain(m *testing.M) {
	hosttest.WireGuardProcess()
	os.Exit(m.Run())
}
