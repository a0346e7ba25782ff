package model

import "time"

// clock is what the model leaves out: when things are due. It follows the same rules as the workflow.
type clock struct {
	graceUntil, publishedAt, nextCheck, soakUntil time.Time
	recheck                                       time.Duration
	refusals                                      int
	// polled: the present step was told to wait; expected is until when nobody has to worry.
	polled bool
	// waiting: it is waited until an abandoned request can no longer take effect.
	waiting  bool
	expected time.Time
	// late is until when requests that were not answered may take effect.
	late time.Time
	// outAt is when applications could first read the new key, maxGrace how long grace can last from then on.
	outAt    time.Time
	maxGrace time.Duration
	// deadline is that of the present wait for a person, question that of the one before.
	deadline, question time.Time
	eyes               eyes
	// last is the state before the decision.
	last State
}

// around notes that a request was not answered.
func (c *clock) around(in Input, now time.Time) {
	if in == RequestLate || in == MintLost {
		c.late = now.Add(horizon)
	}
}

// pass lets time pass in the model.
func (c *clock) pass(s State, now time.Time) State {
	if s.Began {
		s.GraceOver = !now.Before(c.graceUntil)
	}
	if !now.Before(c.late) {
		s.LateMint, s.LateDisable, s.LateDelete, s.Asked, s.Open = 0, 0, 0, 0, false
	}
	return s
}

// expired reports whether the deadline has come.
func (c *clock) expired(now time.Time) bool { return !c.deadline.IsZero() && !now.Before(c.deadline) }

// due is what the clock brings in a step without an activity. It is asked between decisions, and notes what begins.
func (c *clock) due(s State, turn bool, now time.Time) (Fact, bool) {
	from := c.last
	c.begin(from, s, now)
	c.last = s
	if c.eyes.waits(s, turn, now) {
		return Nothing, true
	}
	switch {
	case s.Step == grace && !s.GraceOver && !now.Before(c.graceUntil):
		return Over, false
	case s.Step == grace && !s.GraceOver && !now.Before(c.nextCheck):
		c.last.Fact = Look
		return Look, false
	case s.Step == soak && !now.Before(c.soakUntil):
		return Over, false
	case s.Step == approval && from.Step == approval && turn && c.expired(now) && s.rollsBack():
		return Over, false // the deadline came while signatures were counted
	case s.Step == awaitKey && from.Step == adopt && s.Commitment == staged && c.expired(now):
		return Over, false // the key that came at the last moment could not be used
	}
	return Nothing, false
}

// begin notes what a decision has begun.
func (c *clock) begin(from, to State, now time.Time) {
	if to.Round != from.Round {
		*c = clock{late: c.late, maxGrace: c.maxGrace, last: to}
		return
	}
	c.eyes.begin(from, to)
	if to.Step != from.Step {
		c.polled, c.waiting = false, false
	}
	if to.Commitment == reversing && from.Commitment != reversing || to.Question == NoWayBack && from.Question != NoWayBack {
		c.graceUntil, c.publishedAt, c.nextCheck, c.soakUntil, c.recheck, c.refusals = time.Time{}, c.outAt, time.Time{}, time.Time{}, 0, 0
		if to.Commitment == reversing {
			c.publishedAt = time.Time{}
		}
	}
	switch {
	case from.Step == promote && to.Step == grace:
		c.publishedAt, c.graceUntil = now, now
		if !to.GraceOver {
			c.graceUntil = now.Add(graceLength)
		}
		if to.Commitment != reversing {
			c.outAt = now
		}
		c.recheck = firstRecheck
		c.nextCheck = now.Add(c.recheck)
	case from.Step == guard && to.Step == grace && from.Fact == InUse && from.GraceOver && !from.Emergency:
		c.extend(time.Minute, now)
	case from.Step == disable && to.Step == soak:
		c.soakUntil = now.Add(soakLength)
	}
}

// cap is the latest end that the grace period can have.
func (c *clock) cap() time.Time { return c.publishedAt.Add(c.maxGrace) }

// extend makes the grace period longer.
func (c *clock) extend(d time.Duration, now time.Time) {
	if c.graceUntil.Before(now) {
		c.graceUntil = now
	}
	c.graceUntil = c.graceUntil.Add(d)
	if c.graceUntil.After(c.cap()) {
		c.graceUntil = c.cap()
	}
}
