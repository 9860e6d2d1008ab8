package netlab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/wardnet/wardnet/console/client"
)

// EdgeBinary is the path of the agent's program in this lab.
func (l *Lab) EdgeBinary() string { return l.state.Edge }

// Administrator signs in as the lab's administrator; close what it gives.
func (l *Lab) Administrator(ctx context.Context) (*client.Client, error) {
	pw, err := os.ReadFile(l.path("people", string(admin)+".password"))
	if err != nil {
		return nil, fmt.Errorf("password of the lab's administrator: %w", err)
	}
	c, err := client.New(client.Config{Server: "unix://" + filepath.Join(l.Data(), "wardnet.sock")})
	if err != nil {
		return nil, err
	}
	if _, err := c.Login(ctx, client.Login{Name: string(admin), Password: strings.TrimSpace(string(pw))}); err != nil {
		c.Close()
		return nil, fmt.Errorf("sign in as the lab's administrator: %w", err)
	}
	return c, nil
}
