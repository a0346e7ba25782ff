package model

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"go.temporal.io/sdk/log"
)

// sights are what a walk came by.
type sights struct {
	sync.Mutex
	count  map[string]int
	arrows map[string]bool
}

func (s *sights) add(count map[string]int, arrows []string) {
	s.Lock()
	defer s.Unlock()
	for what, n := range count {
		s.count[what] += n
	}
	for _, a := range arrows {
		s.arrows[a] = true
	}
}

func (s *sights) String() string {
	var all []string
	for what, n := range s.count {
		all = append(all, fmt.Sprintf("%s %d", what, n))
	}
	slices.Sort(all)
	return fmt.Sprintf("walk: %d of %d arrows; %s", len(s.arrows), len(arrows()), strings.Join(all, ", "))
}

// transitions is a logger that keeps the transitions that the workflow logs. Replays log nothing.
type transitions struct{ from, to []string }

func (l *transitions) Debug(string, ...any) {}
func (l *transitions) Warn(string, ...any)  {}
func (l *transitions) Error(string, ...any) {}
func (l *transitions) Info(message string, pairs ...any) {
	if message != "Transition" {
		return
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		switch pairs[i] {
		case "from":
			l.from = append(l.from, pairs[i+1].(string))
		case "to":
			l.to = append(l.to, pairs[i+1].(string))
		}
	}
}

var _ log.Logger = (*transitions)(nil)
