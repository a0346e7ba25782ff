package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/rekeyhq/rekey/rotation"
)

// progress shows the phases of a rotation, one line each; on a terminal the present one shows how long it has lasted.
type progress struct {
	out   io.Writer
	tty   bool
	quiet bool

	mu sync.Mutex
	// began is when the rotation entered its first phase, present the phase that it is in; nil before the first and after
	// the last one.
	began   time.Time
	present *rotation.TrailEntry
	// stopped ends what keeps the present line up to date.
	stopped chan struct{}
}

// tick is how often the line of the present phase is drawn again.
const tick = 300 * time.Millisecond

// enter shows the next phase.
func (p *progress) enter(e rotation.TrailEntry) {
	if p.quiet {
		return
	}
	p.close(e.At)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.began.IsZero() {
		p.began = e.At
	}
	p.present = &e
	if !p.tty {
		mark := ""
		if e.Phase.Waiting() {
			mark = " (waits for a person)"
		}
		fmt.Fprintf(p.out, "%7s  %-20s %s%s\n", length(e.At.Sub(p.began)), e.Phase, e.Phase.Explain(), mark)
		return
	}
	p.draw()
	if p.stopped == nil {
		p.stopped = make(chan struct{})
		go p.animate(p.stopped)
	}
}

func (p *progress) animate(stopped <-chan struct{}) {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-stopped:
			return
		case <-t.C:
			p.mu.Lock()
			p.draw()
			p.mu.Unlock()
		}
	}
}

// draw draws the line of the present phase.
func (p *progress) draw() {
	if p.present != nil {
		fmt.Fprintf(p.out, "\r\033[K… %7s  \033[1m%-20s\033[0m %s", length(time.Since(p.present.At)), p.present.Phase, p.present.Phase.Explain())
	}
}

// close ends the line of the present phase on a terminal.
func (p *progress) close(at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tty && p.present != nil {
		fmt.Fprintf(p.out, "\r\033[K✓ %7s  \033[1m%-20s\033[0m %s\n", length(at.Sub(p.present.At)), p.present.Phase, p.present.Phase.Explain())
	}
	p.present = nil
}

// stop ends the drawing. Nothing is shown after it.
func (p *progress) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.present = nil
	if p.stopped != nil {
		close(p.stopped)
		p.stopped = nil
	}
}

func length(d time.Duration) string {
	return max(d, 0).Truncate(10 * time.Millisecond).String()
}
