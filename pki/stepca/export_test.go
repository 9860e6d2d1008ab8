package stepca

import "time"

// Genuine is genuine, for the fuzzer.
func (s *Server) Genuine(text string, now time.Time) (time.Time, error) { return s.genuine(text, now) }

// TooCostly is tooCostly, for the fuzzer.
func TooCostly(body []byte) error { return tooCostly(body) }
