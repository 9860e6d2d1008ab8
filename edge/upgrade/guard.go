package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/wardnet/wardnet/edge/agent/disk"
)

// How a process tells the next one what it is.
const (
	envTry  = "WARDNET_EDGE_TRY"  // commit id; the process is on trial, and fd 3 takes its last words
	envNext = "WARDNET_EDGE_NEXT" // "boot" or "again": another binary of ours made way for this one

	lastWords = 3 // file descriptor

	overtime = 5 * time.Second // beyond the deadline, for the child to end itself
	maxWords = 2 << 10         // bytes
)

// self is the binary of this process, even when its file was replaced.
const self = "/proc/self/exe"

// Process is what this process was started as.
type Process struct {
	Try   string // commit id it is on trial under; "": none
	Again bool   // another binary ran in this process before, and said what there is to say
	moved bool   // another binary made way already, by the journal
	words *os.File
}

// Inherit reads what the process before left, once, so that programs which the
// agent starts do not see it.
func Inherit() Process {
	p := Process{Try: os.Getenv(envTry)}
	next := os.Getenv(envNext)
	p.moved, p.Again = next != "", next == "again" || p.Try != ""
	os.Unsetenv(envTry)
	os.Unsetenv(envNext)
	if p.Try != "" {
		syscall.CloseOnExec(lastWords)
		p.words = os.NewFile(lastWords, "last words")
	}
	return p
}

// Say leaves err for the guard: why this process ends without being kept.
func (p Process) Say(err error) {
	if p.words != nil && err != nil {
		_, _ = p.words.WriteString(err.Error()) // the guard has the exit code, too
	}
}

// RunningSlot is the slot in dir whose binary this process runs.
func RunningSlot(dir string) string {
	me, err := os.Stat(self)
	if err != nil {
		return Base
	}
	for _, s := range []string{slotA, slotB} {
		if info, err := os.Stat(slotPath(dir, s)); err == nil && os.SameFile(me, info) {
			return s
		}
	}
	return Base
}

// Begin takes the binaries for this process, settles what an earlier one left,
// and makes way for the confirmed binary when this is another: then it does not
// return. release gives them back.
func (u *Upgrade) Begin(ctx context.Context, p Process) (release func(), err error) {
	if p.Try != "" { // the guard holds the lock
		return func() {}, u.Adopt(p.Try, time.Now())
	}
	release, err = disk.Lock(u.deps.Dir)
	if err != nil {
		return nil, err
	}
	want := u.Settle(ctx, time.Now())
	switch {
	case want == u.deps.Running || want == Base:
	case p.moved:
		u.deps.Log.ErrorContext(ctx, "the confirmed agent binary is not what was started", "slot", want, "running", u.deps.Running)
	default:
		u.deps.Log.InfoContext(ctx, "running the confirmed agent version", "slot", want)
		err := makeWay(slotPath(u.deps.Dir, want), "boot")
		u.deps.Log.ErrorContext(ctx, "the confirmed agent binary cannot be started", "slot", want, "err", err)
	}
	return release, nil
}

// makeWay runs the binary at path in this process; it returns only an error.
func makeWay(path, next string) error {
	if err := syscall.Exec(path, os.Args, append(os.Environ(), envNext+"="+next)); err != nil {
		return fmt.Errorf("run %s: %w", path, err)
	}
	return nil
}

// Guard runs the version on trial as a child, after the agent of this process
// has ended, and then the confirmed version in this process: it returns only
// when ctx ended, or when nothing can be run.
func (u *Upgrade) Guard(ctx context.Context) error {
	t := u.Journal().Try
	if t == nil {
		return errors.New("guard an agent version: none is on trial")
	}
	why := u.guard(ctx, *t)
	u.settleTry(ctx, why)
	if ctx.Err() != nil {
		return nil // told to end
	}
	path, want := self, u.Journal().current()
	if want != u.deps.Running && want != Base {
		path = slotPath(u.deps.Dir, want)
	}
	err := makeWay(path, "again")
	if path != self {
		u.deps.Log.ErrorContext(ctx, "the confirmed agent binary cannot be started", "slot", want, "err", err)
		err = makeWay(self, "again")
	}
	return err
}

// settleTry reads what the child journaled, and takes the version back unless
// the child had it confirmed.
func (u *Upgrade) settleTry(ctx context.Context, why string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	j, err := disk.Read[Journal](u.disk, journalFile)
	if err != nil {
		u.deps.Log.ErrorContext(ctx, "the journal of the agent's slots cannot be read", "err", err)
		j = u.journal
	}
	u.journal = j
	if t := j.Try; t != nil {
		u.deps.Log.WarnContext(ctx, "agent version taken back", "version", t.Version, "commit", t.Commit, "err", why)
		u.note(ctx, j.fail(why, time.Now()))
	}
}

// guard is the life of the child; it answers why it ended, for the case that it
// was not kept. The child is killed when this thread ends, however that
// happens, so the goroutine keeps its thread.
func (u *Upgrade) guard(ctx context.Context, t Try) string {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	words, theirs, err := os.Pipe()
	if err != nil {
		return fmt.Sprintf("it was not started: %v", err)
	}
	defer words.Close()
	cmd := exec.Command(slotPath(u.deps.Dir, t.Slot), os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), envTry+"="+t.Commit)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdout, os.Stderr, []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return fmt.Sprintf("it was not started: %v", err)
	}
	u.deps.Log.InfoContext(ctx, "agent version started on trial", "version", t.Version, "commit", t.Commit, "pid", cmd.Process.Pid)
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	deadline := time.NewTimer(t.Revert + overtime)
	defer deadline.Stop()
	select {
	case err := <-done:
		return epitaph(words, err)
	case <-deadline.C:
		_ = cmd.Process.Kill() // ended meanwhile: just as well
		<-done
		return fmt.Sprintf("it hung: no Confirm arrived within %s and it did not end by itself", t.Revert)
	case <-ctx.Done():
		_ = cmd.Process.Signal(syscall.SIGTERM)
	}
	select {
	case <-done:
	case <-time.After(2 * overtime):
		_ = cmd.Process.Kill()
		<-done
	}
	return "interrupted: the agent was told to end before the version was confirmed"
}

// epitaph is why a child ended by itself: its last words, or else its exit.
func epitaph(words *os.File, exit error) string {
	_ = words.SetReadDeadline(time.Now().Add(time.Second)) // a program it started may hold the pipe
	b := make([]byte, maxWords)
	n, _ := words.Read(b)
	how := "exit status 0"
	if exit != nil {
		how = exit.Error()
	}
	if n == 0 {
		return fmt.Sprintf("it ended (%s) before it was confirmed", how)
	}
	return strings.TrimPrefix(strings.ToValidUTF8(string(b[:n]), "?"), ErrTakenBack.Error()+": ")
}

// Open is [Load] on this machine for the agent with this state directory.
func Open(ctx context.Context, state string, deps Deps) (*Upgrade, error) {
	deps.Dir, deps.Files, deps.Blobs = Dir(state), disk.OS{}, OS{}
	deps.Running = RunningSlot(deps.Dir)
	if err := (disk.OS{}).MkdirAll(filepath.Clean(state)); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	return Load(ctx, deps)
}

// Peek reads the journal of the agent with this state directory, for a reader
// beside it.
func Peek(state string) (Journal, error) {
	if _, err := os.Stat(filepath.Join(Dir(state), journalFile)); errors.Is(err, os.ErrNotExist) {
		return Journal{}, nil
	}
	d, err := disk.Open(disk.OS{}, Dir(state))
	if err != nil {
		return Journal{}, err
	}
	return disk.Read[Journal](d, journalFile)
}
