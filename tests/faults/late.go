package faults

import (
	"slices"
	"sync"

	"github.com/rekeyhq/rekey/internal/simcloud"
)

// late are requests that take effect after their caller has gone.
type late struct {
	mu  sync.Mutex
	all []lateRequest
}

type lateRequest struct {
	*simcloud.Fault
	// next: just before the next activity; otherwise when the one that sent it has ended.
	next bool
}

// expect notes a request that will be late.
func (l *late) expect(f *simcloud.Fault, next bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, lateRequest{f, next})
}

// forget drops those that have never come.
func (l *late) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = nil
}

// commit lets those that have come take effect. next: another activity is about to begin.
func (l *late) commit(next bool) {
	l.mu.Lock()
	var now []lateRequest
	l.all = slices.DeleteFunc(l.all, func(r lateRequest) bool {
		select {
		case <-r.Reached:
		default:
			return false
		}
		if next || !r.next {
			now = append(now, r)
			return true
		}
		return false
	})
	l.mu.Unlock()
	for _, r := range now {
		close(r.Release)
		<-r.Done
	}
}
