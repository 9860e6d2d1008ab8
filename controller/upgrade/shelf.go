package upgrade

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/wardnet/wardnet/edge/release"
	"github.com/wardnet/wardnet/inventory"
)

// Shelf keeps agent binaries as files named by their hash. A file that is there
// is whole: it is written beside its name, synced and renamed.
type Shelf struct{ dir string }

// NewShelf makes the directory where it is missing.
func NewShelf(dir string) (*Shelf, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("agent binaries: %w", err)
	}
	return &Shelf{dir}, nil
}

func (s *Shelf) path(sum []byte) string { return filepath.Join(s.dir, hex.EncodeToString(sum)) }

// Put keeps a binary durably and returns once it would survive a power cut.
func (s *Shelf) Put(binary []byte) error {
	sum := sha256.Sum256(binary)
	tmp, err := os.CreateTemp(s.dir, ".new-*")
	if err != nil {
		return fmt.Errorf("keep the agent binary: %w", err)
	}
	defer os.Remove(tmp.Name()) // after the rename there is nothing to remove
	_, err = tmp.Write(binary)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = errors.Join(os.Rename(tmp.Name(), s.path(sum[:])), syncDir(s.dir))
	}
	if err != nil {
		return fmt.Errorf("keep the agent binary: %w", err)
	}
	return nil
}

// Holds says whether the binary with this hash is on the shelf.
func (s *Shelf) Holds(sum []byte) bool {
	_, err := os.Stat(s.path(sum))
	return err == nil
}

// Open opens the binary with this hash and checks it, or wraps
// [inventory.ErrNotFound].
func (s *Shelf) Open(sum []byte) (*os.File, error) {
	f, err := os.Open(s.path(sum))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: the file of this agent is not on the controller any more; add it again with 'wardnet agent add'", inventory.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open the agent binary: %w", err)
	}
	have := sha256.New()
	if _, err := io.Copy(have, f); err != nil || !bytes.Equal(have.Sum(nil), sum) {
		return nil, errors.Join(fmt.Errorf("%w: the file of this agent is damaged on the controller; add it again with 'wardnet agent add'", inventory.ErrNotFound), err, f.Close())
	}
	return f, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// machines are the platforms an agent may be for.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// inspect describes an uploaded file: an agent for Linux on amd64 or arm64 that
// does not call itself another version. Everything else is
// [inventory.ErrInvalid].
func inspect(version string, file []byte) (release.Release, error) {
	invalid := func(format string, args ...any) (release.Release, error) {
		return release.Release{}, fmt.Errorf("%w: agent binary: "+format, append([]any{inventory.ErrInvalid}, args...)...)
	}
	r := bytes.NewReader(file)
	img, err := elf.NewFile(r)
	if err != nil {
		return invalid("no ELF file (%w); build it with GOOS=linux", err)
	}
	defer img.Close()
	rel, err := release.Describe(version, r, int64(len(file)))
	if err != nil {
		return release.Release{}, err
	}
	machine, known := machines[rel.GOARCH]
	switch {
	case rel.GOOS != "linux" || !known:
		return invalid("it is for %s/%s; edges run linux/amd64 or linux/arm64", rel.GOOS, rel.GOARCH)
	case img.Class != elf.ELFCLASS64 || img.Machine != machine || img.Type != elf.ET_EXEC && img.Type != elf.ET_DYN:
		return invalid("it says it is for %s, its header says %s %s %s", rel.GOARCH, img.Class, img.Machine, img.Type)
	}
	info, err := buildinfo.Read(r)
	if err != nil {
		return invalid("%w", err)
	}
	if own := embedded(info); own != "" && own != version {
		return invalid("it calls itself version %s, not %s", own, version)
	}
	return rel, nil
}

var (
	// stamped finds the version that the linker was told.
	stamped = regexp.MustCompile(`-X[= ]['"]?[^\s'"=]*\.[vV]ersion=([^\s'"]+)`)
	// pseudo is the form of versions that Go makes of a commit.
	pseudo = regexp.MustCompile(`[.-]\d{14}-[0-9a-f]{12}$`)
)

// embedded is the version that the build recorded, or "" when it recorded none.
// With -trimpath Go does not record what the linker was told.
func embedded(info *buildinfo.BuildInfo) string {
	trimmed := false
	for _, s := range info.Settings {
		switch s.Key {
		case "-ldflags":
			if m := stamped.FindStringSubmatch(s.Value); m != nil {
				return m[1]
			}
		case "-trimpath":
			trimmed = s.Value == "true"
		}
	}
	v, _, _ := strings.Cut(info.Main.Version, "+")
	if trimmed || v == "" || v == "(devel)" || pseudo.MatchString(v) {
		return ""
	}
	return strings.TrimPrefix(v, "v")
}
