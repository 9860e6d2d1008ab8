package store

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

var tokensFlag = flag.Int("tokens", 25, "tokens of TestThousandTokens; make accept takes 1000")

// presentEnv makes this test binary a controller that presents tokens.
const presentEnv = "WARDNET_TEST_PRESENT_TOKENS"

// presentJob says what a child presents: each request by eight at once.
type presentJob struct {
	DSN, Dir, Requests string
}

const presenters = 8 // in each of two processes: 16 concurrent presentations

// presentTokens prints one line for each certificate it got.
func presentTokens(text string) {
	var job presentJob
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		panic(err)
	}
	db, err := Open(context.Background(), job.DSN)
	if err != nil {
		panic(err)
	}
	defer db.Close()
	p, err := pki.Open(context.Background(), pki.Deps{
		Store: NewPKI(db, "hcmc"), Dir: job.Dir, Log: slog.New(slog.DiscardHandler), Audit: func(context.Context, pki.Event) error { return nil },
	}, pki.Config{})
	if err != nil {
		panic(err)
	}
	raw, err := os.ReadFile(job.Requests)
	if err != nil {
		panic(err)
	}
	var queue [][]enrol.Request // by token: as many CSRs as presentations
	if err := json.Unmarshal(raw, &queue); err != nil {
		panic(err)
	}
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		panic(err)
	}
	var mu sync.Mutex
	for _, same := range queue {
		var wg sync.WaitGroup
		for _, q := range same {
			wg.Go(func() {
				if c, err := p.Enrol(context.Background(), "192.0.2.1:1", q); err == nil {
					mu.Lock()
					defer mu.Unlock()
					fmt.Println(c.Device, c.Serial)
				}
			})
		}
		wg.Wait()
	}
	fmt.Println("done")
}

// Every token is presented 16 times at once by two processes, each time with
// another CSR: exactly one certificate per token, on each engine.
func TestThousandTokens(t *testing.T) {
	for name, open := range map[string]func() string{
		"sqlite":   func() string { return sqliteDSN(t) },
		"postgres": func() string { return pg.database(t, "migrated") },
	} {
		t.Run(name, func(t *testing.T) {
			dsn, dir := open(), t.TempDir()
			db := opened(t, dsn)
			p := authorityOn(t, db, dir)
			var queues [2][][]enrol.Request
			for i := range *tokensFlag {
				device := fmt.Sprintf("e-%d", i)
				token, _, err := p.CreateToken(t.Context(), inventory.DeviceID(device), "SN-"+device, "test")
				if err != nil {
					t.Fatal(err)
				}
				for j := range queues {
					same := make([]enrol.Request, presenters)
					for n := range same {
						same[n] = request(t, p, device, token)
					}
					queues[j] = append(queues[j], same)
				}
			}
			got := map[string]int{}
			var mu sync.Mutex
			var ready, done sync.WaitGroup
			var starts []func()
			for j, queue := range queues {
				raw, err := json.Marshal(queue)
				if err != nil {
					t.Fatal(err)
				}
				file := filepath.Join(dir, fmt.Sprintf("requests-%d.json", j))
				if err := os.WriteFile(file, raw, 0o600); err != nil {
					t.Fatal(err)
				}
				job, err := json.Marshal(presentJob{dsn, dir, file})
				if err != nil {
					t.Fatal(err)
				}
				cmd := exec.CommandContext(t.Context(), os.Args[0])
				cmd.Env, cmd.Stderr = append(os.Environ(), presentEnv+"="+string(job)), os.Stderr
				in, err := cmd.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				starts = append(starts, func() { fmt.Fprintln(in) })
				ready.Add(1)
				done.Go(func() {
					lines, isReady, ended := bufio.NewScanner(out), false, false
					for lines.Scan() {
						switch text := lines.Text(); text {
						case "ready":
							isReady = true
							ready.Done()
						case "done":
							ended = true
						default:
							mu.Lock()
							got[text]++
							mu.Unlock()
						}
					}
					if !isReady {
						ready.Done()
					}
					if err := cmd.Wait(); err != nil || !ended {
						t.Errorf("process %d: %v", j, err)
					}
				})
			}
			ready.Wait()
			for _, start := range starts {
				start()
			}
			done.Wait()
			for line, n := range got {
				if n != 1 {
					t.Errorf("%s was given %d times", line, n)
				}
			}
			if len(got) != *tokensFlag {
				t.Errorf("%d certificates for %d tokens", len(got), *tokensFlag)
			}
			var rows int
			if err := db.Read(t.Context(), func(tx *Tx) error {
				return tx.QueryRow("SELECT count(*) FROM pki_certificates WHERE issuer = ?", pki.Devices).Scan(&rows)
			}); err != nil || rows != *tokensFlag {
				t.Errorf("%d certificates of devices are recorded for %d tokens, %v", rows, *tokensFlag, err)
			}
		})
	}
}
