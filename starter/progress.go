package main

import (
	"fmt"
	"io"
	"time"
)

// progress shows the phases of a rotation: one line each; on a terminal the present one is kept up to date in place.
type progress struct {
	out     io.Writer
	tty     bool
	quiet   bool
	started time.Time

	name, about string
	since       time.Time
	open        bool
}

// phase shows that the rotation is in a phase, and what happens there.
func (p *progress) phase(name, about string, waiting bool) {
	if p.quiet {
		return
	}
	if name == p.name && about == p.about {
		p.tick()
		return
	}
	if name != p.name {
		p.close()
		p.name, p.since = name, time.Now()
	}
	p.about = about
	if p.tty {
		p.open = true
		p.tick()
		return
	}
	mark := ""
	if waiting {
		mark = " (waits for a person)"
	}
	fmt.Fprintf(p.out, "%6s  %-20s %s%s\n", p.elapsed(p.started), name, about, mark)
}

func (p *progress) tick() {
	if p.tty && p.open {
		fmt.Fprintf(p.out, "\r\033[K… %6s  \033[1m%-20s\033[0m %.110s", p.elapsed(p.since), p.name, p.about)
	}
}

// close ends the present line with how long the phase took.
func (p *progress) close() {
	if p.tty && p.open {
		fmt.Fprintf(p.out, "\r\033[K✓ %6s  %-20s\n", p.elapsed(p.since), p.name)
		p.open = false
	}
}

func (p *progress) done() {
	if !p.quiet {
		p.close()
	}
}

func (p *progress) elapsed(since time.Time) string {
	return time.Since(since).Truncate(100 * time.Millisecond).String()
}
