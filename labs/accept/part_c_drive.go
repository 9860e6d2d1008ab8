package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/clibox"
)

// driving is the process of the CLI driver, which keeps its sessions as the
// controller does.
type driving struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// driveJob is what labs/clibox/drive takes.
type driveJob struct {
	User   string     `json:"user"`
	UserCA []byte     `json:"user_ca"`
	HostCA []byte     `json:"host_ca"`
	Boxes  []driveBox `json:"boxes"`
	Runs   int        `json:"runs"`
}

type driveBox struct {
	ID   inventory.DeviceID `json:"id"`
	Addr string             `json:"addr"`
	Want edge.Config        `json:"want"`
}

// wardnet is the driver's turn.
func (c *contest) wardnet(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	changed, err := c.drive(ctx, 2, contestAfter)
	if err != nil {
		return 0, err
	}
	if !slices.Equal(changed, []int{ansibleBoxes, 0}) {
		return 0, fmt.Errorf("the driver changed %v boxes, want %d and then none", changed, ansibleBoxes)
	}
	return time.Since(start), nil
}

// wardnetCold is the turn of a new process.
func (c *contest) wardnetCold(ctx context.Context) (time.Duration, error) {
	c.stopDriver()
	return c.wardnet(ctx)
}

// drive gives the driver one job and says how many boxes it wrote in each run.
func (c *contest) drive(ctx context.Context, runs int, want func(int) edge.Config) ([]int, error) {
	if c.driver == nil {
		if err := c.startDriver(); err != nil {
			return nil, err
		}
	}
	j := driveJob{User: clibox.User, UserCA: c.userPEM, HostCA: ssh.MarshalAuthorizedKey(c.hostCA.PublicKey()), Runs: runs}
	for i := range c.boxes {
		j.Boxes = append(j.Boxes, driveBox{boxID(i), boxAddr(i) + ":" + clibox.Port, want(i)})
	}
	stop := context.AfterFunc(ctx, func() { _ = c.driver.cmd.Process.Kill() })
	defer stop()
	var r struct {
		Changed []int `json:"changed"`
	}
	err := json.NewEncoder(c.driver.in).Encode(j)
	if err == nil {
		err = c.driver.out.Decode(&r)
	}
	if err != nil {
		return nil, fmt.Errorf("the driver's process: %w", errors.Join(err, ctx.Err()))
	}
	return r.Changed, nil
}

func (c *contest) startDriver() error {
	argv := c.client.Command("ip", "netns", "exec", c.noc, filepath.Join(c.dir, "drive"))
	d := &driving{cmd: exec.Command(argv[0], argv[1:]...)}
	d.cmd.Stderr = os.Stderr
	var err error
	if d.in, err = d.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	d.out = json.NewDecoder(out)
	if err := d.cmd.Start(); err != nil {
		return fmt.Errorf("start the driver: %w", err)
	}
	c.driver = d
	return nil
}

func (c *contest) stopDriver() {
	if c.driver == nil {
		return
	}
	_ = c.driver.in.Close() // its input ends, and it with it
	_ = c.driver.cmd.Wait()
	c.driver = nil
}
