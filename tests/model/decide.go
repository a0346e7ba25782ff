package model

// awake reports whether the rotation has something to decide on.
func (s State) awake() bool {
	if s.Fact != Nothing {
		return true
	}
	switch s.Step {
	case grace:
		return s.Request || s.Follow || s.GraceOver
	case soak:
		return s.Request || s.Follow || s.Emergency
	case awaitKey:
		return s.Request || s.Follow || s.EarlySupply
	case awaitRevocation:
		return s.Request || s.Follow || s.EarlyRevoked
	case awaitContainment, approval:
		return s.Request || s.Follow
	case contain:
		return s.shape().RevokeByHand
	}
	return false
}

// decide goes where the facts lead, after everything that has arrived was heard.
func (m Model) decide(s State) State {
	if s.Follow {
		return m.follow(s)
	}
	if s.Request {
		s.Request = false
		if s.Commitment.name().CanRollBack() || m.breaks(DoRequest) {
			return m.back(s)
		}
	}
	switch s.Step {
	case conflicts:
		return m.afterConflicts(s)
	case prepare:
		return m.afterPrepare(s)
	case contain, awaitContainment:
		return m.afterContain(s)
	case create, awaitKey, adopt:
		return m.afterCreate(s)
	case store, verify:
		return m.afterStore(s)
	case promote, grace, recheck:
		return m.afterPromote(s)
	case guard:
		return m.afterGuard(s)
	case approval:
		return m.afterApproval(s)
	case disable, soak, remove:
		return m.afterRevoke(s)
	case awaitRevocation, confirm, retire:
		return m.afterConfirm(s)
	default:
		return m.afterBackwards(s)
	}
}

// watches reports whether a step belongs to the grace period.
func (s step) watches() bool { return s == grace || s == recheck }

// to enters a step.
func (m Model) to(s State, next step, into commitment) State {
	stays, watches := next == s.Step, s.Step.watches() && next.watches()
	if next == remove && s.Step != remove {
		s.Before = into == bothKeys
	}
	if next == remove && into == bothKeys {
		into = forwardOnly
	}
	s.Step, s.Commitment, s.Fact = next, into, Nothing
	if stays {
		return s
	}
	s.Overdue, s.Retried = false, false
	if next != approval {
		s.Question, s.After = NoQuestion, 0
	}
	if !watches {
		s.Signatures = 0
	}
	if next != adopt && next != awaitKey {
		s.Resupplied = false
	}
	switch next {
	case prepare:
		s.Stale = false
	case disable:
		if into != reversing {
			s.Disables |= s.outgoing()
		}
	}
	if s.Closed() {
		s.Request = false
	}
	return s
}

func (m Model) ask(s State, q Question, after step, into commitment) State {
	s = m.to(s, approval, into)
	s.Question, s.After, s.Signatures = q, after, 0
	return s
}

// back begins the way back.
func (m Model) back(s State) State {
	switch s.Commitment {
	case looking:
		return m.nothingChanged(s)
	case staged:
		return m.to(s, discard, discarding)
	}
	return m.reverse(s)
}

// reverse begins a rotation in the other direction.
func (m Model) reverse(s State) State {
	s = s.turn()
	s.Verified &^= set(s.Back)
	next := verify
	switch {
	case s.Disables.has(s.Back):
		next = enable
	case s.Missing:
		next = store
	}
	return m.to(s, next, reversing)
}

// turn forgets what belongs to one direction.
func (s State) turn() State {
	s.Began, s.GraceOver, s.Released, s.Approved, s.Mandate, s.Void = false, false, false, NoQuestion, 0, false
	s.EarlySupply, s.EarlyRevoked, s.Before, s.DeleteOpen, s.Deleted, s.Enabled, s.ByHand = false, false, false, false, 0, 0, false
	return s
}

// maxEnables is how often the old key is enabled on one way back.
const maxEnables = 3

// tryAgain reports whether an old key that is refused is to be enabled once more: an abandoned request may have disabled it.
func (m Model) tryAgain(s State) bool {
	return s.Disables.has(s.Back) && (s.Enabled < maxEnables || m.breaks(EnableForEver))
}

// noWayBack stops a roll-back whose old key cannot be gone back to.
func (m Model) noWayBack(s State) State {
	s = s.turn()
	s.Began = s.Out
	return m.ask(s, NoWayBack, verify, bothKeys)
}

// giveUp rolls back because of a failure that waiting does not cure; where it cannot, a person puts that right.
func (m Model) giveUp(s State) State {
	if s.Commitment.name().CanRollBack() {
		return m.back(s)
	}
	return m.ask(s, CannotGoOn, s.Step, s.Commitment)
}

// follow ends this rotation and begins the one that serves the emergencies that it could not.
func (m Model) follow(s State) State {
	next := s.begin()
	next.Round, next.Follows = s.Round+1, true
	next.Emergency, next.First, next.Vague = s.Emergency || s.Follow, s.First || s.FollowFirst, s.Vague || s.FollowVague
	next.Step = s.shape().first()
	return next
}

// begin is the world of s with a rotation that knows nothing.
func (s State) begin() State {
	return State{
		Shape: s.Shape, Live: s.Live, Off: s.Off, Killed: s.Killed, Sacrificed: s.Sacrificed, Leaked: s.Leaked, LateMint: s.LateMint, LateDisable: s.LateDisable,
		LateDelete: s.LateDelete, Asked: s.Asked, Stores: s.Stores, Owed: s.Owed, Claim: s.Claim, Open: s.Open, Round: s.Round, Faults: s.Faults,
	}
}

func (m Model) afterConflicts(s State) State {
	if s.Emergency {
		return m.to(s, prepare, looking)
	}
	switch s.Fact {
	case Conflict:
		return m.to(s, completed, looking)
	case Unavailable:
		return m.to(s, conflicts, looking)
	case Refused:
		return m.nothingChanged(s)
	}
	return m.to(s, prepare, looking)
}

// nothingChanged ends a rotation that has changed nothing. What the one before it in the same workflow had staged is
// discarded first.
func (m Model) nothingChanged(s State) State {
	if s.Follows {
		return m.to(s, discard, discarding)
	}
	return m.to(s, rolledBack, looking)
}

func (m Model) afterPrepare(s State) State {
	switch {
	case s.Stale: // an emergency came meanwhile: look again with its eyes
		s.Stale = false
		return m.to(s, prepare, looking)
	case s.Fact == Another:
		return m.follow(s)
	case s.Fact == Asked:
		return m.ask(s, ForeignClaim, prepare, looking)
	case s.Fact == Refused:
		return m.nothingChanged(s)
	case s.Fact == NotDue && s.Follows && !m.breaks(ForgetPredecessor):
		return m.to(s, retire, forwardOnly)
	case s.Fact == NotDue:
		return m.to(s, completed, looking)
	case s.Fact == OnlyFinish:
		if s.nothingKnown() {
			s.Emergency, s.First = false, false
		}
		if m.breaks(LeavePending) {
			return m.to(s, grace, forwardOnly)
		}
		return m.to(s, promote, forwardOnly)
	case s.Fact == Due && s.First && s.Olds != 0:
		return m.to(s, contain, forwardOnly)
	case s.Fact == Due:
		return m.to(s, s.creating(), staged)
	}
	return m.to(s, prepare, looking)
}

// nothingKnown reports whether the emergency names nothing that a store or a record knows: a slip of the pen.
func (s State) nothingKnown() bool {
	return s.Emergency && !s.Vague && s.Leaked&(s.currents()|s.Owed|s.values()) == 0
}

// creating is how this provider's keys are made.
func (s State) creating() step {
	if s.shape().SupplyByHand {
		return awaitKey
	}
	return create
}

func (m Model) afterContain(s State) State {
	switch {
	case s.Step == contain && s.shape().RevokeByHand:
		return m.to(s, awaitContainment, forwardOnly)
	case s.Fact == OK || s.Fact == Claimed:
		s.Contained = true
		return m.to(s, s.creating(), forwardOnly)
	case s.Fact == Refused:
		return m.ask(s, NotContained, contain, forwardOnly)
	case s.Fact == Over:
		s.Overdue = true
	}
	return m.to(s, s.Step, s.Commitment)
}

func (m Model) afterCreate(s State) State {
	switch {
	case s.Step == awaitKey && s.Fact == Claimed:
		return m.to(s, adopt, s.Commitment)
	case s.Step == awaitKey && s.EarlySupply:
		s.EarlySupply = false
		return m.to(s, adopt, s.Commitment)
	case s.Step == awaitKey && s.Fact == Over:
		if s.Commitment.name().CanRollBack() {
			return m.back(s)
		}
		s.Overdue = true
	case s.Step == adopt && s.Fact == Over && !s.Resupplied && s.Commitment.name().CanRollBack():
		return m.back(s)
	case s.Step == adopt && (s.Fact == Refused || s.Fact == Unusable || s.Fact == Over || s.Resupplied && (s.Fact == OK || s.Fact == Unavailable || s.Fact == Asked)):
		later := s.Resupplied
		s.Resupplied = false
		if s = m.to(s, awaitKey, s.Commitment); later {
			s.Fact = Claimed
		}
		return s
	case s.Step == adopt && s.Fact == OK:
		if s.New, s.Supplied = s.Stores[0].Pending, true; s.currents().has(s.own()) {
			s.New = s.own() // published before a reset
		}
		return m.to(s, s.afterStaging(m), s.Commitment)
	case s.Fact == OK:
		return m.to(s, s.afterStaging(m), s.Commitment)
	case s.Fact == Asked && s.Step == create:
		return m.ask(s, UnprovenKeys, create, s.Commitment)
	case s.Fact == Asked:
		s.Resupplied = false
		return m.ask(s, ForeignClaim, adopt, s.Commitment)
	case s.Fact == Refused:
		return m.giveUp(s)
	}
	return m.to(s, s.Step, s.Commitment)
}

// afterStaging leaves out the step that a single store does not need.
func (s State) afterStaging(m Model) step {
	if s.shape().Stores == 1 || m.breaks(SkipStore) {
		return verify
	}
	return store
}

func (m Model) afterStore(s State) State {
	refused := s.Fact == Refused || s.Step == verify && (s.Fact == NewRefused || s.Fact == Unusable)
	switch {
	case s.Step == store && s.Fact == OK:
		return m.to(s, verify, s.Commitment)
	case s.Fact == OK && s.Commitment == staged:
		if s.Back != NoKey && s.Works && !s.Emergency {
			return m.to(s, promote, bothKeys)
		}
		return m.to(s, promote, forwardOnly)
	case s.Fact == OK:
		return m.to(s, promote, s.Commitment)
	case s.Fact == NewRefused && s.Step == verify && s.Commitment == reversing && m.tryAgain(s):
		return m.to(s, enable, reversing)
	case refused && s.Commitment == reversing:
		return m.noWayBack(s)
	case refused && s.Fact != Refused && s.Commitment == forwardOnly && !m.breaks(ProveTheDead):
		s.Refused = true // the same key again would be refused again
		return m.ask(s, CannotGoOn, s.creating(), s.Commitment)
	case refused:
		return m.giveUp(s)
	}
	return m.to(s, s.Step, s.Commitment)
}

func (m Model) afterPromote(s State) State {
	switch {
	case s.Step == promote && s.Fact == OK:
		s.GraceOver, s.Released = s.Emergency || s.outgoing() == 0 || s.onlyOldIsDead(), false
		s.Began, s.Out = true, s.Out || s.Commitment != reversing
		return m.to(s, grace, s.Commitment)
	case s.Step == promote && s.Fact == Asked:
		return m.ask(s, ChangedCurrent, promote, s.Commitment)
	case s.Step == promote && s.Fact == Refused && s.Commitment.name().CanRollBack():
		return m.back(s)
	case s.Step == promote && s.Fact == Refused:
		return m.ask(s, CannotGoOn, promote, s.Commitment)
	case s.Step == grace && s.Fact == Look && m.breaks(SkipGrace):
		return m.to(s, guard, s.Commitment)
	case s.Step == grace && s.Fact == Over: // no later than the policy allows
		s.GraceOver = true
		return m.to(s, guard, s.Commitment)
	case s.Step == grace && s.GraceOver && m.breaks(SkipGuard) && s.Commitment != reversing:
		return m.to(s, remove, s.Commitment)
	case s.Step == grace && s.GraceOver:
		return m.to(s, guard, s.Commitment)
	case s.Step == grace && s.Fact == Look:
		return m.to(s, recheck, s.Commitment)
	case s.Step == recheck && s.Fact == OldWorks && s.Commitment == bothKeys:
		return m.back(s)
	case s.Step == recheck && (s.Fact == OldWorks || s.Fact == Refused):
		if s.Commitment == reversing && m.tryAgain(s) {
			return m.to(s, enable, reversing)
		}
		return m.ask(s, KeysRefused, grace, s.Commitment)
	case s.Step == recheck:
		return m.to(s, grace, s.Commitment)
	}
	return m.to(s, s.Step, s.Commitment)
}

// onlyOldIsDead reports whether the provider refused the one old key when the rotation began.
func (s State) onlyOldIsDead() bool {
	return s.Back != NoKey && !s.Works && s.Commitment != reversing && len(s.outgoing().each()) == 1
}

func (m Model) afterGuard(s State) State {
	switch {
	case s.outgoing() == 0:
		return m.to(s, retire, s.end())
	case !s.GraceOver && !m.breaks(SkipGrace):
		return m.to(s, grace, s.Commitment)
	case s.Emergency && s.Fact == Nothing:
		return m.revoke(s)
	case s.Fact == Nothing: // the one old key is dead
		if s.shape().FourEyes {
			return m.release(s, ReleasePolicy)
		}
		return m.revoke(s)
	case s.Emergency:
		return m.revoke(s)
	case s.Fact == Unavailable:
		return m.to(s, guard, s.Commitment)
	case s.Fact == InUse && s.Approved != ReleaseInUse:
		s.GraceOver = false
		return m.to(s, grace, s.Commitment)
	case s.Fact == InUse || s.Fact == Asked: // in use, and grace cannot be extended any more
		return m.release(s, ReleaseInUse)
	case s.Fact == UseUnknown && (s.shape().Use != Timer || s.shape().Approve || s.shape().FourEyes):
		return m.release(s, ReleaseUnknown)
	case s.Fact == Unused && (s.shape().Approve || s.shape().FourEyes):
		return m.release(s, ReleasePolicy)
	}
	return m.revoke(s)
}

// release asks a person before the revoke, unless the same or something graver was approved.
func (m Model) release(s State, q Question) State {
	mandated := !s.shape().FourEyes || s.Mandate.all(s.outgoing()) || m.breaks(KeepMandate)
	if s.Approved.releases() && s.Approved >= q && mandated {
		return m.revoke(s)
	}
	return m.ask(s, q, guard, s.Commitment)
}

// end is the commitment with which a rotation ends.
func (s State) end() commitment {
	if s.Commitment == reversing {
		return reversing
	}
	return forwardOnly
}

// revoke begins to take the outgoing keys away.
func (m Model) revoke(s State) State {
	s.Released = true
	switch {
	case s.shape().RevokeByHand && s.Contained:
		return m.to(s, confirm, s.Commitment)
	case s.shape().RevokeByHand:
		return m.to(s, awaitRevocation, s.Commitment)
	case s.shape().Disable && !s.Emergency && !s.Contained:
		return m.to(s, disable, s.Commitment)
	}
	return m.to(s, remove, s.Commitment)
}

// rollsBack reports whether a question that nobody answers ends in a roll-back.
func (s State) rollsBack() bool {
	return s.Commitment.name().CanRollBack() && s.Question != NotRevoked && !(s.After == guard && s.shape().Use == Never)
}

func (m Model) afterApproval(s State) State {
	switch {
	case s.Fact == Answered:
		return m.goOn(s)
	case s.Fact == Over && s.rollsBack():
		return m.back(s)
	case s.Fact == Over:
		s.Overdue = true
	}
	return m.to(s, approval, s.Commitment)
}

// goOn goes where the question came from. Whoever gives the old key up has the new one proven once more: the roll-back may
// have begun to take it away.
func (m Model) goOn(s State) State {
	switch {
	case s.Question == NoWayBack && m.breaks(PublishUnproven):
		return m.to(s, promote, forwardOnly)
	case s.Question == NoWayBack:
		return m.to(s, verify, forwardOnly)
	}
	return m.to(s, s.After, s.Commitment)
}

func (m Model) afterRevoke(s State) State {
	switch {
	case s.Step == soak:
		return m.to(s, remove, s.Commitment)
	case s.Fact == OK && s.Step == disable && s.Emergency:
		return m.to(s, remove, s.Commitment)
	case s.Fact == OK && s.Step == disable:
		return m.to(s, soak, s.Commitment)
	case s.Fact == Gone:
		return m.to(s, remove, s.Commitment)
	case s.Fact == OK && s.Deleted.all(s.outgoing()):
		return m.to(s, confirm, s.Commitment)
	case s.Fact == Unsigned:
		if s.Released = false; !m.breaks(KeepMandate) {
			s.Approved, s.Mandate, s.Void = NoQuestion, 0, false
		}
		return m.to(s, guard, m.before(s))
	case s.Fact == Refused:
		return m.ask(s, NotRevoked, s.Step, m.before(s))
	}
	return m.to(s, s.Step, s.Commitment)
}

// before is the commitment to which a definite refusal of a delete leads, unless an earlier request for one may still take
// effect.
func (m Model) before(s State) commitment {
	if s.Step == remove && s.Commitment != reversing && s.Before && !s.DeleteOpen && (!s.Emergency || m.breaks(ReturnToLeaked)) {
		return bothKeys
	}
	return s.Commitment
}

func (m Model) afterConfirm(s State) State {
	switch {
	case s.Step == awaitRevocation && (s.Fact == Claimed || s.EarlyRevoked):
		s.EarlyRevoked = false
		if m.breaks(SkipConfirm) && s.Commitment != bothKeys {
			return m.to(s, retire, s.Commitment)
		}
		return m.to(s, confirm, s.Commitment)
	case s.Step == awaitRevocation && s.Fact == Over:
		s.Overdue = true
	case s.Step == confirm && s.Fact == OK:
		return m.to(s, retire, s.end())
	case s.Step == confirm && s.Fact == Accepted && s.shape().RevokeByHand:
		return m.to(s, awaitRevocation, s.Commitment)
	case s.Step == confirm && s.Fact == Accepted:
		s.Deleted = 0
		return m.ask(s, NotRevoked, remove, s.Commitment)
	case s.Step == confirm && s.Fact == NewRefused:
		return m.ask(s, NewRefusedNow, confirm, s.Commitment)
	case s.Step == confirm && s.Fact == Refused:
		return m.ask(s, NotRevoked, confirm, s.Commitment)
	case s.Step == retire && s.Fact == OK && s.Commitment == reversing:
		return m.to(s, rolledBack, reversing)
	case s.Step == retire && s.Fact == OK:
		return m.to(s, completed, forwardOnly)
	case s.Step == retire && s.Fact == Refused:
		return m.ask(s, NotCleared, retire, s.Commitment)
	}
	return m.to(s, s.Step, s.Commitment)
}

func (m Model) afterBackwards(s State) State {
	switch {
	case s.Step == enable && (s.Fact == OK || s.Fact == Refused && s.ByHand): // verify has the last word
		s.Enabled = min(s.Enabled+1, maxEnables)
		if s.Missing {
			return m.to(s, store, reversing)
		}
		return m.to(s, verify, reversing)
	case s.Step == enable && s.Fact == Gone:
		s.Disables = 0
		return m.noWayBack(s)
	case s.Fact == Refused:
		return m.ask(s, CannotGoOn, s.Step, s.Commitment)
	case s.Step == discard && s.Fact == AlreadyPublished:
		s.New = s.own()
		if s.Disables = 0; s.shape().Disable {
			s.Disables = set(s.Back) // it may have been asked for before the reset
		}
		if s.Back != NoKey && s.Works && (!s.Emergency || m.breaks(DiscardIntoLeaked)) {
			return m.reverse(s)
		}
		if m.breaks(PublishUnproven) {
			return m.to(s, promote, forwardOnly)
		}
		return m.to(s, verify, forwardOnly)
	case s.Step == discard && s.Fact == OK:
		return m.to(s, rolledBack, discarding)
	}
	return m.to(s, s.Step, s.Commitment)
}
