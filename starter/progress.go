package main

import (
	"fmt"
	"io"
	"time"

	"github.com/rekeyhq/rekey/rotation"
)

// progress shows the phases of a rotation, one line each; on a terminal the present one shows how long it has
// lasted.
type progress struct {
	out   io.Writer
	tty   bool
	quiet bool

	shown int // entries of the trail
	open  *rotation.TrailEntry
}

// trail shows the phases that were entered since the last call, also those that were over in no time.
func (p *progress) trail(entries []rotation.TrailEntry) {
	if p.quiet {
		return
	}
	for _, e := range entries[min(p.shown, len(entries)):] {
		p.close(e.At)
		p.open = &e
		if !p.tty {
			mark := ""
			if e.Phase.Waiting() {
				mark = " (waits for a person)"
			}
			fmt.Fprintf(p.out, "%7s  %-20s %s%s\n", length(e.At.Sub(entries[0].At)), e.Phase, e.Phase.Explain(), mark)
		}
	}
	p.shown = len(entries)
	if p.tty && p.open != nil {
		fmt.Fprintf(p.out, "\r\033[K… %7s  \033[1m%-20s\033[0m %s", length(time.Since(p.open.At)), p.open.Phase, p.open.Phase.Explain())
	}
}

// close ends the present line on a terminal.
func (p *progress) close(at time.Time) {
	if p.tty && p.open != nil {
		fmt.Fprintf(p.out, "\r\033[K✓ %7s  \033[1m%-20s\033[0m %s\n", length(at.Sub(p.open.At)), p.open.Phase, p.open.Phase.Explain())
	}
	p.open = nil
}

func length(d time.Duration) string {
	return max(d, 0).Truncate(10 * time.Millisecond).String()
}
