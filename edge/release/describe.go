package release

import (
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"io"
	"strings"

	"github.com/wardnet/wardnet/inventory"
)

// program is the main package of every agent binary.
const program = "cmd/wardnet-edge"

// Describe gives the unsigned release of the agent binary of size bytes in r.
// The platform is what the binary itself says it was built for; what is no
// agent binary is [inventory.ErrInvalid].
func Describe(version string, r io.ReaderAt, size int64) (Release, error) {
	if size <= 0 || size > MaxSize {
		return Release{}, fmt.Errorf("%w: an agent binary has 1 to %d bytes, this has %d; build it stripped (-ldflags '-s -w')", inventory.ErrInvalid, MaxSize, size)
	}
	whole := io.NewSectionReader(r, 0, size)
	info, err := buildinfo.Read(whole)
	if err != nil {
		return Release{}, fmt.Errorf("%w: not a Go program: %w", inventory.ErrInvalid, err)
	}
	if !strings.HasSuffix(info.Path, program) {
		return Release{}, fmt.Errorf("%w: the binary is %q, not %s", inventory.ErrInvalid, info.Path, program)
	}
	out := Release{Version: version, Size: size}
	for _, s := range info.Settings {
		switch s.Key {
		case "GOOS":
			out.GOOS = s.Value
		case "GOARCH":
			out.GOARCH = s.Value
		}
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(r, 0, size)); err != nil {
		return Release{}, fmt.Errorf("read the agent binary: %w", err)
	}
	out.SHA256 = sum.Sum(nil)
	return out, out.Validate()
}
