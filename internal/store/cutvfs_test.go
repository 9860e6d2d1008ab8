package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// opKind is one thing that happens to a disk.
type opKind string

const (
	opCreate   opKind = "create"   // a name appears
	opDelete   opKind = "delete"   // a name goes
	opWrite    opKind = "write"    // data at off
	opTruncate opKind = "truncate" // to off bytes
	opSync     opKind = "sync"     // what was written to the file is on the disk
	opDirSync  opKind = "dirsync"  // names are on the disk
	opAck      opKind = "ack"      // Write number off returned: it must survive from here on
)

// diskOp is one recorded operation; name is relative to the directory.
type diskOp struct {
	kind opKind
	name string
	off  int64
	data []byte
}

// recorder is a SQLite VFS: the operating system's own, with every write,
// truncation, sync, creation and deletion in one directory noted in order.
// Shared memory (-shm) is not noted: SQLite rebuilds it after a crash.
type recorder struct {
	mu    sync.Mutex
	dir   string // recorded while not empty
	names []string
	ops   []diskOp
	open  map[uintptr]cutFile // by sqlite3_file
}

// cutFile is an open file under record and the functions it came with.
type cutFile struct {
	name string
	unix sqlite3.Tsqlite3_io_methods
}

const cutVFS = "wardnet-cut"

var cut = recorder{open: map[uintptr]cutFile{}}

// record starts a recording in dir; the result ends it.
func (r *recorder) record(dir string) (stop func() []diskOp) {
	cutRegister()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dir, r.ops, r.names = dir, nil, nil
	return func() []diskOp {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.dir = ""
		return r.ops
	}
}

func (r *recorder) ack(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(diskOp{kind: opAck, off: int64(n)})
}

// syncDir does and notes what the product's own directory sync does. Files the
// product made itself are first noticed here.
func (r *recorder) syncDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	r.mu.Lock()
	for _, e := range entries {
		if dir == r.dir && !slices.Contains(r.names, e.Name()) {
			r.add(diskOp{kind: opCreate, name: e.Name()})
		}
	}
	if dir == r.dir {
		r.add(diskOp{kind: opDirSync})
	}
	r.mu.Unlock()
	return syncDir(dir)
}

// add needs mu.
func (r *recorder) add(o diskOp) {
	if r.dir == "" || strings.HasSuffix(o.name, "-shm") {
		return
	}
	switch o.kind {
	case opCreate:
		r.names = append(r.names, o.name)
	case opDelete:
		r.names = slices.DeleteFunc(r.names, func(n string) bool { return n == o.name })
	}
	r.ops = append(r.ops, o)
}

// inDir gives the name of a path in the recorded directory. It needs mu.
func (r *recorder) inDir(path string) (string, bool) {
	return filepath.Base(path), r.dir != "" && filepath.Dir(path) == r.dir
}

// file notes an operation on an open file and gives the functions to hand it on to.
func (r *recorder) file(f uintptr, o diskOp) sqlite3.Tsqlite3_io_methods {
	r.mu.Lock()
	defer r.mu.Unlock()
	o.name = r.open[f].name
	r.add(o)
	return r.open[f].unix
}

// The C side. The VFS is a copy of SQLite's "unix" with two functions of our
// own; a file it opens is a unix file with four functions of our own, each of
// which notes the call and hands it on.
var (
	cutRegister = sync.OnceFunc(registerCut)
	unixVFS     sqlite3.Tsqlite3_vfs
	unixOpenDir uintptr
	// cutMethods maps a table of unix functions (a file that is never locked
	// has one of its own) to our copy of it; guarded by cut.mu.
	cutMethods = map[uintptr]uintptr{}
)

type (
	fnOpen     = func(tls *libc.TLS, vfs, name, file uintptr, flags int32, out uintptr) int32
	fnDelete   = func(tls *libc.TLS, vfs, name uintptr, dirSync int32) int32
	fnWrite    = func(tls *libc.TLS, file, buf uintptr, n int32, off sqlite3.Tsqlite3_int64) int32
	fnTruncate = func(tls *libc.TLS, file uintptr, size sqlite3.Tsqlite3_int64) int32
	fnSync     = func(tls *libc.TLS, file uintptr, flags int32) int32
	fnClose    = func(tls *libc.TLS, file uintptr) int32
	fnOpenDir  = func(tls *libc.TLS, path, out uintptr) int32
	fnGetCall  = func(tls *libc.TLS, vfs, name uintptr) uintptr
	fnSetCall  = func(tls *libc.TLS, vfs, name, f uintptr) int32
)

// pointer gives a Go function the form SQLite's translated C calls.
func pointer[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&struct{ f F }{f})) }

// function is the inverse of pointer.
func function[F any](p uintptr) F { return *(*F)(unsafe.Pointer(&struct{ p uintptr }{p})) }

// at views C memory.
func at[T any](p uintptr) *T { return *(**T)(unsafe.Pointer(&p)) }

func cString(s string) uintptr {
	p, err := libc.CString(s)
	if err != nil {
		panic(err)
	}
	return p
}

func registerCut() {
	tls := libc.NewTLS() // never closed: the VFS lives as long as the process
	unix := sqlite3.Xsqlite3_vfs_find(tls, cString("unix"))
	unixVFS = *at[sqlite3.Tsqlite3_vfs](unix)
	p := libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(unixVFS)))
	v := at[sqlite3.Tsqlite3_vfs](p)
	*v = unixVFS
	v.FpNext, v.FzName = 0, cString(cutVFS)
	v.FxOpen, v.FxDelete = pointer[fnOpen](cutOpen), pointer[fnDelete](cutDelete)
	if rc := sqlite3.Xsqlite3_vfs_register(tls, p, 0); rc != sqlite3.SQLITE_OK {
		panic("register VFS")
	}
	// SQLite opens a directory for one purpose: to sync it at once.
	name := cString("openDirectory")
	unixOpenDir = function[fnGetCall](unixVFS.FxGetSystemCall)(tls, unix, name)
	if rc := function[fnSetCall](unixVFS.FxSetSystemCall)(tls, unix, name, pointer[fnOpenDir](cutOpenDir)); rc != sqlite3.SQLITE_OK {
		panic("replace openDirectory")
	}
}

func cutOpen(tls *libc.TLS, vfs, name, file uintptr, flags int32, out uintptr) int32 {
	path := ""
	if name != 0 {
		path = libc.GoString(name)
	}
	_, err := os.Stat(path)
	rc := function[fnOpen](unixVFS.FxOpen)(tls, vfs, name, file, flags, out)
	if rc != sqlite3.SQLITE_OK {
		return rc
	}
	cut.mu.Lock()
	defer cut.mu.Unlock()
	base, ours := cut.inDir(path)
	if !ours {
		return rc
	}
	f := at[sqlite3.Tsqlite3_file](file)
	unix := *at[sqlite3.Tsqlite3_io_methods](f.FpMethods)
	if cutMethods[f.FpMethods] == 0 {
		p := libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(unix)))
		m := at[sqlite3.Tsqlite3_io_methods](p)
		*m = unix
		m.FxWrite, m.FxTruncate = pointer[fnWrite](cutWrite), pointer[fnTruncate](cutTruncate)
		m.FxSync, m.FxClose = pointer[fnSync](cutSync), pointer[fnClose](cutClose)
		cutMethods[f.FpMethods] = p
	}
	f.FpMethods = cutMethods[f.FpMethods]
	cut.open[file] = cutFile{base, unix}
	if errors.Is(err, fs.ErrNotExist) {
		cut.add(diskOp{kind: opCreate, name: base})
	}
	return rc
}

func cutDelete(tls *libc.TLS, vfs, name uintptr, dirSync int32) int32 {
	cut.mu.Lock()
	if base, ours := cut.inDir(libc.GoString(name)); ours && slices.Contains(cut.names, base) {
		cut.add(diskOp{kind: opDelete, name: base})
	}
	cut.mu.Unlock()
	return function[fnDelete](unixVFS.FxDelete)(tls, vfs, name, dirSync)
}

func cutOpenDir(tls *libc.TLS, path, out uintptr) int32 {
	cut.mu.Lock()
	if _, ours := cut.inDir(libc.GoString(path)); ours {
		cut.add(diskOp{kind: opDirSync})
	}
	cut.mu.Unlock()
	return function[fnOpenDir](unixOpenDir)(tls, path, out)
}

func cutWrite(tls *libc.TLS, file, buf uintptr, n int32, off sqlite3.Tsqlite3_int64) int32 {
	unix := cut.file(file, diskOp{kind: opWrite, off: off, data: slices.Clone(unsafe.Slice(at[byte](buf), n))})
	return function[fnWrite](unix.FxWrite)(tls, file, buf, n, off)
}

func cutTruncate(tls *libc.TLS, file uintptr, size sqlite3.Tsqlite3_int64) int32 {
	unix := cut.file(file, diskOp{kind: opTruncate, off: size})
	return function[fnTruncate](unix.FxTruncate)(tls, file, size)
}

func cutSync(tls *libc.TLS, file uintptr, flags int32) int32 {
	unix := cut.file(file, diskOp{kind: opSync})
	return function[fnSync](unix.FxSync)(tls, file, flags)
}

func cutClose(tls *libc.TLS, file uintptr) int32 {
	cut.mu.Lock()
	unix := cut.open[file].unix
	delete(cut.open, file)
	cut.mu.Unlock()
	return function[fnClose](unix.FxClose)(tls, file)
}

// The recorder must see what happens: the recorded operations, all kept, make
// the very files that are on the disk.
func TestRecorderSeesEverything(t *testing.T) {
	dir, ops := recordWrites(t, sqliteOptions{})
	kinds := map[opKind]int{}
	for _, o := range ops {
		kinds[o.kind]++
	}
	for _, k := range []opKind{opCreate, opDelete, opWrite, opSync, opDirSync, opAck} {
		if kinds[k] == 0 {
			t.Errorf("no %s was recorded", k)
		}
	}
	t.Logf("recorded %v", kinds)
	files := replay(ops).image(keepAll, true)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		disk, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if string(disk) != string(files[e.Name()]) {
			t.Errorf("%s: the recording makes %d other bytes, the disk has %d", e.Name(), len(files[e.Name()]), len(disk))
		}
	}
	if len(entries) != len(files) {
		t.Errorf("%d files on the disk, %d in the recording", len(entries), len(files))
	}
}
