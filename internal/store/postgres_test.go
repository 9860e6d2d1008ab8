package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// cluster is a private PostgreSQL server on a Unix socket, started by the first
// test that needs it and removed by TestMain. It listens on no TCP port.
type cluster struct {
	start  sync.Once
	err    error
	dir    string
	cmd    *exec.Cmd
	exited chan struct{}
	log    bytes.Buffer
	names  atomic.Int64
}

var pg cluster

// database gives the DSN of a new database; with template, its schema is
// migrated already. It is dropped when the test ends.
func (c *cluster) database(t *testing.T, template string) string {
	t.Helper()
	c.start.Do(func() { c.err = c.up() })
	if c.err != nil {
		t.Fatalf("start PostgreSQL for the tests: %v\n%s", c.err, c.log.String())
	}
	name := fmt.Sprintf("t%d", c.names.Add(1))
	if err := c.admin(fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", name, template)); err != nil {
		t.Fatalf("create test database: %v", err)
	}
	t.Cleanup(func() {
		if err := c.admin(fmt.Sprintf("DROP DATABASE %s WITH (FORCE)", name)); err != nil {
			t.Errorf("drop test database: %v", err)
		}
	})
	return c.dsn(name)
}

func (c *cluster) dsn(database string) string {
	q := url.Values{"host": {c.dir}, "user": {"wardnet"}}
	return "postgres:///" + database + "?" + q.Encode()
}

func (c *cluster) admin(statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.dsn("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

func (c *cluster) up() (err error) {
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return err
	}
	if len(bins) == 0 {
		return errors.New("no PostgreSQL server in /usr/lib/postgresql; run `make deps` (Debian package postgresql-15)")
	}
	slices.Sort(bins)
	bin := filepath.Dir(bins[len(bins)-1])
	who, err := unprivileged()
	if err != nil {
		return err
	}
	// Not t.TempDir: the server outlives the test that starts it, and a socket
	// path must stay under 108 bytes.
	if c.dir, err = os.MkdirTemp("/tmp", "wardnet-pg-"); err != nil {
		return err
	}
	if who != nil {
		if err := os.Chown(c.dir, int(who.Uid), int(who.Gid)); err != nil {
			return err
		}
	}
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = c.dir, &c.log, &c.log
		cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
		return cmd
	}
	data := filepath.Join(c.dir, "data")
	if err := command("initdb", "-D", data, "-U", "wardnet", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync").Run(); err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	c.cmd = command("postgres", "-D", data, "-k", c.dir, "-c", "listen_addresses=",
		"-c", "max_connections=200", "-c", "shared_buffers=32MB", "-c", "autovacuum=off", "-c", "max_wal_size=4GB")
	c.cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT // a killed test leaves no server behind
	c.exited = make(chan struct{})
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // Pdeathsig follows the thread, so keep it
		err := c.cmd.Start()
		started <- err
		if err == nil {
			c.cmd.Wait()
		}
		close(c.exited)
	}()
	if err := <-started; err != nil {
		return err
	}
	if err := c.ready(); err != nil {
		return err
	}
	if err := c.admin("CREATE DATABASE migrated"); err != nil {
		return err
	}
	db, err := Open(context.Background(), c.dsn("migrated"))
	if err != nil {
		return err
	}
	return db.Close()
}

// ready waits until the server answers.
func (c *cluster) ready() error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for {
		err := c.admin("SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-c.exited:
			return fmt.Errorf("the server ended at once: %w", err)
		case <-deadline:
			return fmt.Errorf("the server does not answer: %w", err)
		}
	}
}

// down stops the server, if it ran, and removes its files.
func (c *cluster) down() {
	if c.cmd != nil && c.cmd.Process != nil {
		c.cmd.Process.Signal(syscall.SIGINT) // "fast": end sessions, write a checkpoint, stop
		select {
		case <-c.exited:
		case <-time.After(30 * time.Second):
			c.cmd.Process.Signal(syscall.SIGQUIT)
			<-c.exited
		}
	}
	if c.dir != "" {
		os.RemoveAll(c.dir)
	}
}

// unprivileged gives whom to run the server as: it refuses to run as root.
func unprivileged() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	var err error
	for _, name := range []string{"postgres", "nobody"} {
		var u *user.User
		if u, err = user.Lookup(name); err != nil {
			continue
		}
		uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
		if err = errors.Join(uerr, gerr); err == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, fmt.Errorf("find an unprivileged user to run PostgreSQL as: %w", err)
}
