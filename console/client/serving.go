package client

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
