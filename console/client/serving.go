package client

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// Serving is the line that "wardnet serve --json" prints once every listener
// accepts. Addresses are host:port as bound.
type Serving struct {
	Console string `json:"console"`
	PEP     string `json:"pep"`
	Devices string `json:"devices"`
	CA      string `json:"ca"`
	Enrol   string `json:"enrol"`
	Status  string `json:"status"`
	Metrics string `json:"metrics"`
	Socket  string `json:"socket"` // unix socket, root only
	Root    string `json:"root"`   // file with the root certificate (PEM)
	// Setup is the file (0600) with the one-time link of the first
	// administrator; empty once there is one.
	Setup string `json:"setup,omitempty"`
	PID   int    `json:"pid"`
}

// SetupToken reads the token of the first administrator's one-time link from the
// file that [Serving] names; "" is a controller that has one. The token is the
// link's fragment, which no server ever logs.
func SetupToken(file string) (string, error) {
	if file == "" {
		return "", errors.New("the controller has an administrator already, and makes no other link; begin with an empty data directory")
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read the first administrator's link: %w", err)
	}
	u, err := url.Parse(strings.TrimSpace(string(b)))
	if err != nil {
		return "", fmt.Errorf("the first administrator's link in %s is not a URL", file)
	}
	q, err := url.ParseQuery(u.Fragment[strings.LastIndex(u.Fragment, "?")+1:])
	if err != nil || q.Get("token") == "" {
		return "", fmt.Errorf("the first administrator's link in %s has no token", file)
	}
	return q.Get("token"), nil
}
