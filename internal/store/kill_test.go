package store

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// writeLoopEnv makes this test binary a writer: "<first transaction> <dsn>".
const writeLoopEnv = "WARDNET_TEST_WRITE_LOOP"

// killStride keeps the numbers of one process apart from the next one's.
const killStride = 1 << 16

// writeLoop writes from four goroutines until it is killed and prints the
// number of each transaction once it is acknowledged.
func writeLoop(arg string) {
	number, dsn, _ := strings.Cut(arg, " ")
	first, err := strconv.Atoi(number)
	if err != nil {
		panic(err)
	}
	db, err := Open(context.Background(), dsn)
	if err != nil {
		panic(err)
	}
	for g := range 4 {
		go func() {
			for n := first + g; ; n += 4 {
				if err := writeParts(context.Background(), db, n); err != nil {
					panic(err)
				}
				fmt.Println(n)
			}
		}()
	}
	select {}
}

// killedRun starts a writer, kills it at some moment and gives what it had
// acknowledged.
func killedRun(t *testing.T, first int, dsn string) (acked []int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", writeLoopEnv, first, dsn))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() { cmd.Process.Kill() } // SIGKILL
	if rand.N(5) == 0 {
		time.AfterFunc(rand.N(150*time.Millisecond), kill) // perhaps while it opens the database
	}
	var once sync.Once
	for in := bufio.NewReader(out); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			break // the last line may be half: not an acknowledgement
		}
		n, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			t.Fatalf("the writer said %q", line)
		}
		acked = append(acked, n)
		once.Do(func() { time.AfterFunc(rand.N(40*time.Millisecond), kill) })
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("the writer was not killed, it ended: %v", cmd.ProcessState)
	}
	return acked
}

func TestKilledWriterLosesNothing(t *testing.T) {
	for name, run := range map[string]struct {
		kills int
		dsn   string
	}{
		"sqlite":   {50, sqliteDSN(t)},
		"postgres": {5, pg.database(t, "migrated")},
	} {
		t.Run(name, func(t *testing.T) {
			total, kept := 0, 0
			for i := range run.kills {
				first := i * killStride
				acked := killedRun(t, first, run.dsn)
				total += len(acked)
				db, err := Open(t.Context(), run.dsn)
				if err != nil {
					t.Fatal(err)
				}
				var parts map[int]int
				err = db.Read(t.Context(), func(tx *Tx) (err error) {
					parts, err = scanParts(tx)
					return err
				})
				if err != nil {
					t.Fatalf("after kill %d: %v", i, err)
				}
				for n, got := range parts {
					if got != cutParts {
						t.Errorf("after kill %d: transaction %d has %d of %d rows", i, n, got, cutParts)
					}
				}
				for _, n := range acked {
					if parts[n] == 0 {
						t.Errorf("after kill %d: transaction %d was acknowledged and is lost", i, n)
					}
				}
				// Make room: the file does not grow from kill to kill.
				err = db.Write(t.Context(), func(tx *Tx) error {
					_, err := tx.Exec("DELETE FROM inventory_rows WHERE org = 'o'")
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
				kept += len(parts)
			}
			if total == 0 {
				t.Error("no writer lived long enough to acknowledge anything")
			}
			t.Logf("%d kills, %d acknowledged transactions, %d found", run.kills, total, kept)
		})
	}
}
