package console

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// built is the web console; without npm it holds the placeholder only.
//
//go:embed all:static
var built embed.FS

// files serves the web console: files by name, hashed assets for a year, and
// the index for every other path, which the page routes itself.
func (c *Console) files() (http.Handler, error) {
	root := c.deps.Files
	if root == nil {
		var err error
		if root, err = fs.Sub(built, "static"); err != nil {
			return nil, fmt.Errorf("embedded console: %w", err)
		}
	}
	index, err := fs.ReadFile(root, "index.html")
	if errors.Is(err, fs.ErrNotExist) {
		index, err = fs.ReadFile(root, "placeholder.html")
	}
	if err != nil {
		return nil, fmt.Errorf("embedded console: %w", err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			writeProblem(w, notFound(r.Method+" "+r.URL.Path))
			return
		}
		name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
		if b, ok := asset(root, name); ok {
			w.Header().Set("Cache-Control", "no-cache")
			if strings.HasPrefix(name, "assets/") { // their names hold a hash
				w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
			}
			http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(b))
			return
		}
		if path.Ext(name) != "" { // a missing file is not a page
			writeProblem(w, notFound(r.URL.Path))
			return
		}
		w.Header().Set("Cache-Control", "no-cache")
		http.ServeContent(w, r, "index.html", time.Time{}, bytes.NewReader(index))
	}), nil
}

// asset reads a file of the build; hidden files, the index and the placeholder
// are none.
func asset(root fs.FS, name string) ([]byte, bool) {
	if name == "" || name == "index.html" || name == "placeholder.html" || strings.HasPrefix(path.Base(name), ".") || !fs.ValidPath(name) {
		return nil, false
	}
	b, err := fs.ReadFile(root, name)
	return b, err == nil
}
