package pki_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

// memory is a network inside the process, for tests in simulated time: a
// listener for each port.
type memory struct {
	mu sync.Mutex
	at map[string]*memoryListener
}

func newMemory() *memory { return &memory{at: map[string]*memoryListener{}} }

type memoryListener struct {
	net   *memory
	port  string
	queue chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (m *memory) listen(port string) *memoryListener {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := &memoryListener{net: m, port: port, queue: make(chan net.Conn), done: make(chan struct{})}
	m.at[port] = l
	return l
}

// Dial stands for the devices' network.
func (m *memory) Dial(ctx context.Context, _, addr string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	l := m.at[port]
	m.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	if l == nil {
		return nil, refused
	}
	device, server := net.Pipe()
	select {
	case l.queue <- server:
		return device, nil
	case <-l.done:
		return nil, refused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.net.mu.Lock()
		defer l.net.mu.Unlock()
		if l.net.at[l.port] == l {
			delete(l.net.at, l.port)
		}
	})
	return nil
}

func (l *memoryListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// town is a controller and its devices in simulated time.
type town struct {
	t     *testing.T
	dir   string
	db    *store.DB
	kept  *store.PKI
	wires *memory
	cfg   pki.Config

	pki    *pki.PKI
	stop   func() // of the controller
	mu     sync.Mutex
	events []pki.Event
}

func newTown(t *testing.T, cfg pki.Config) *town {
	t.Helper()
	w := &town{t: t, dir: t.TempDir(), wires: newMemory(), cfg: cfg}
	var err error
	if w.db, err = store.Open(t.Context(), "sqlite://"+w.dir+"/wardnet.db"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.down()
		time.Sleep(time.Minute) // connections say goodbye for at most five seconds
		if err := w.db.Close(); err != nil {
			t.Error(err)
		}
	})
	w.kept = store.NewPKI(w.db, "hcmc")
	w.cfg.EnrolURL, w.cfg.CAURL, w.cfg.Channel = "https://127.0.0.1:9445", "https://127.0.0.1:9444", "127.0.0.1:9443" // no name is resolved
	w.up(false)
	return w
}

// up starts the controller; with run also what runs beside it.
func (w *town) up(run bool) {
	w.t.Helper()
	var err error
	w.pki, err = pki.Open(context.Background(), pki.Deps{
		Store: w.kept, Dir: w.dir, Log: slog.New(slog.DiscardHandler),
		Audit: func(_ context.Context, e pki.Event) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
			return nil
		},
	}, w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var servers []*http.Server
	for port, h := range map[string]http.Handler{"9445": w.pki.EnrolHandler(), "9444": w.pki.CAHandler()} {
		l := map[string]pki.Listener{"9445": pki.EnrolListener, "9444": pki.CAListener}[port]
		srv := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
		ln := w.pki.Listen(w.wires.listen(port), l, "http/1.1")
		wg.Go(func() { srv.Serve(ln) }) //nolint:errcheck // ends with Close
		servers = append(servers, srv)
	}
	if run {
		wg.Go(func() { w.pki.Run(ctx) }) //nolint:errcheck // never fails
	}
	w.stop = func() {
		cancel()
		for _, srv := range servers {
			srv.Close()
		}
		wg.Wait()
	}
}

func (w *town) down() {
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

func (w *town) client() enrol.Client {
	return enrol.Client{Dial: w.wires.Dial, Log: slog.New(slog.DiscardHandler)}
}

func (w *town) bundle(id inventory.DeviceID) enrol.Bundle {
	w.t.Helper()
	token, _, err := w.pki.CreateToken(context.Background(), id, "SN-"+string(id), "an")
	if err != nil {
		w.t.Fatal(err)
	}
	return w.pki.Bundle(id, "SN-"+string(id), token)
}

func (w *town) enrolled(id inventory.DeviceID) *enrol.Identity {
	w.t.Helper()
	i, err := w.client().Enrol(context.Background(), w.bundle(id), w.t.TempDir())
	if err != nil {
		w.t.Fatal(err)
	}
	return i
}

// wasUp notes that certificates could be had from the last note until now.
func (w *town) wasUp() {
	w.t.Helper()
	if err := w.kept.Beat(context.Background(), time.Now(), 1000*day); err != nil {
		w.t.Fatal(err)
	}
}

// pass lets time go by in which certificates could be had, and then starts the
// controller anew, for nothing kept its own certificate fresh meanwhile.
func (w *town) pass(d time.Duration) {
	w.t.Helper()
	w.wasUp()
	time.Sleep(d)
	w.wasUp()
	w.down()
	w.up(false)
}

// story gives the events of one action.
func (w *town) story(action string) []pki.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []pki.Event
	for _, e := range w.events {
		if e.Action == action {
			out = append(out, e)
		}
	}
	return out
}

func (w *town) quarantined() map[inventory.DeviceID]string {
	w.t.Helper()
	list, err := w.pki.Quarantined(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[inventory.DeviceID]string{}
	for _, q := range list {
		out[q.Device] = q.Reason
	}
	return out
}
