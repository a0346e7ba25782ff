package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	sdkclient "go.temporal.io/sdk/client"
	"golang.org/x/term"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/workflows"
)

// lookAgain is how often the screen is brought up to date.
const lookAgain = 500 * time.Millisecond

// watchEmergency shows how an emergency stands until it has ended. That a worker or Temporal does not answer is shown,
// and waited out.
func (a *app) watchEmergency(ctx context.Context, c sdkclient.Client, id string) error {
	rekey := client.New(c)
	display := &emergencyDisplay{out: a.out, tty: isTerminal(a.out), quiet: a.json, said: map[string]string{}}
	for {
		f, closed, err := rekey.EmergencyProgress(ctx, id)
		switch {
		case errors.Is(err, client.ErrNotFound):
			return badInput("there is no emergency %q; the id was shown when it was started, and the Temporal UI has it as %s", id, workflows.EmergencyID(id))
		case closed && err != nil:
			return err
		case closed:
			display.clear()
			return a.emergencyEnded(ctx, c, f)
		case ctx.Err() != nil:
		case err != nil:
			display.problem(id, err)
		default:
			display.show(f)
		}
		select {
		case <-ctx.Done():
			display.clear()
			return fmt.Errorf("not watching any more, but the emergency goes on. To watch it again: rekey emergency --resume %s", id)
		case <-time.After(lookAgain):
		}
	}
}

// emergencyDisplay shows an emergency: on a terminal a screen that is drawn anew, elsewhere a line for each thing that
// happens.
type emergencyDisplay struct {
	out        io.Writer
	tty, quiet bool
	lines      int               // drawn
	said       map[string]string // by key; the plain lines
	last       workflows.EmergencyProgress
}

func (s *emergencyDisplay) show(f workflows.EmergencyProgress) {
	if s.quiet {
		return
	}
	s.last = f
	if s.tty {
		s.draw("")
		return
	}
	if s.once("", "Emergency "+f.ID) {
		fmt.Fprintf(s.out, "Emergency %s over %d key(s). After Ctrl-C or a crash: rekey emergency --resume %s\n", f.ID, len(f.Keys), f.ID)
	}
	for _, r := range f.Keys {
		switch text := rowText(r); {
		case r.State == workflows.Queued && r.Why == "", !s.once(r.Key, text):
		default:
			fmt.Fprintf(s.out, "%8s  %-40s %s\n", length(time.Since(f.StartedAt).Truncate(time.Second)), r.Key, text)
		}
	}
}

// problem says that nobody answers.
func (s *emergencyDisplay) problem(id string, err error) {
	text := err.Error() + ". The emergency is kept and goes on; still watching."
	switch {
	case s.quiet:
	case s.tty:
		s.last.ID = id
		s.draw(text)
	case s.once("problem", text):
		fmt.Fprintln(s.out, text)
	}
}

// once reports whether a text is new.
func (s *emergencyDisplay) once(about, text string) bool {
	if s.said[about] == text {
		return false
	}
	s.said[about] = text
	return true
}

// urgency is the order of the rows on a screen that has no room for all.
var urgency = []workflows.KeyState{workflows.Failed, workflows.Waiting, workflows.UnderWay, workflows.Queued, workflows.NotRaised, workflows.Done}

// draw draws the screen anew, within the terminal.
func (s *emergencyDisplay) draw(problem string) {
	width, height := 100, 30
	if f, ok := s.out.(*os.File); ok {
		if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 20 && h > 10 {
			width, height = w, h
		}
	}
	lines := screenLines(s.last, problem, height-2)
	s.clear()
	for _, l := range lines {
		if r := []rune(l); len(r) >= width {
			l = string(r[:width-2]) + "…"
		}
		fmt.Fprintln(s.out, l)
	}
	s.lines = len(lines)
}

// screenLines are at most height lines, the rows that need somebody first.
func screenLines(f workflows.EmergencyProgress, problem string, height int) []string {
	counts, full := f.Counts(), 0
	const bar = 40
	if len(f.Keys) > 0 {
		full = counts[workflows.Done] * bar / len(f.Keys)
	}
	lines := []string{
		fmt.Sprintf("Emergency %s  %s", f.ID, f.Why),
		fmt.Sprintf("[%s%s] %s", strings.Repeat("#", full), strings.Repeat(" ", bar-full), f.Sentence()),
		fmt.Sprintf("Ctrl-C only stops watching; to watch again: rekey emergency --resume %s", f.ID),
	}
	if problem != "" {
		lines = append(lines, problem)
	}
	rows := slices.DeleteFunc(slices.Clone(f.Keys), func(r workflows.KeyProgress) bool { return r.State == workflows.Queued && r.Why == "" })
	slices.SortStableFunc(rows, func(x, y workflows.KeyProgress) int {
		return cmp.Compare(slices.Index(urgency, x.State), slices.Index(urgency, y.State))
	})
	room := height - len(lines) - 2
	for i, r := range rows {
		if i >= room {
			lines = append(lines, fmt.Sprintf("  and %d more", len(rows)-i))
			break
		}
		lines = append(lines, fmt.Sprintf("  %-40s %s", r.Key, rowText(r)))
	}
	return lines
}

// clear takes the screen away.
func (s *emergencyDisplay) clear() {
	if s.lines > 0 {
		fmt.Fprintf(s.out, "\033[%dA\033[J", s.lines)
	}
	s.lines = 0
}

// rowText says in a line how a key stands, and what a person has to do.
func rowText(r workflows.KeyProgress) string {
	switch r.State {
	case workflows.UnderWay:
		if r.Unreadable {
			return fmt.Sprintf("%s; it is looked at again: rekey explain %s", r.Why, r.Key)
		}
		return strings.TrimSpace("under way " + string(r.Phase))
	case workflows.Waiting:
		return fmt.Sprintf("waits for a person (%s): rekey status %s", r.Phase, r.Key)
	case workflows.Failed:
		return "FAILED: " + r.Why
	case workflows.Done:
		refused, ok := r.ToRefused()
		if !ok {
			return "done: " + r.Why
		}
		return "done, the old key is refused after " + length(refused)
	case workflows.Queued:
		if r.Why != "" {
			return "tried again: " + r.Why
		}
	}
	return string(r.State)
}

// finalKey is one key of the final table.
type finalKey struct {
	Key   string             `json:"key"`
	State workflows.KeyState `json:"state"`
	Phase string             `json:"phase,omitempty"`
	// The times are in seconds since the emergency was raised for the key; absent if it never happened.
	ToNewKey  *float64 `json:"seconds_to_new_key,omitempty"`
	ToRefused *float64 `json:"seconds_to_old_key_refused,omitempty"`
	Outcome   string   `json:"outcome,omitempty"`
	// FollowUps is what a person has to do.
	FollowUps []string `json:"follow_ups,omitempty"`
}

// emergencyEnded prints the table and chooses the exit code.
func (a *app) emergencyEnded(ctx context.Context, c sdkclient.Client, f workflows.EmergencyProgress) error {
	keys := make([]finalKey, len(f.Keys))
	for i, r := range f.Keys {
		keys[i] = finalKey{Key: r.Key, State: r.State, Phase: string(r.Phase), Outcome: r.Why, FollowUps: toDo(r)}
		if r.FollowUps > 0 || strings.HasSuffix(r.Why, "…") {
			keys[i].inFull(ctx, c, f)
		}
		if d, ok := r.ToNewKey(); ok {
			keys[i].ToNewKey = new(d.Seconds())
		}
		if d, ok := r.ToRefused(); ok {
			keys[i].ToRefused = new(d.Seconds())
		}
	}
	out := map[string]any{"id": f.ID, "complete": f.Complete(), "outcome": f.Outcome, "counts": f.Counts(), "started_at": f.StartedAt, "ended_at": f.EndedAt, "keys": keys}
	if err := a.print(out, finalTable(f, keys)); err != nil {
		return err
	}
	if !f.Complete() {
		return fmt.Errorf("the emergency %s is not done: %s", f.ID, f.Outcome)
	}
	return nil
}

// toDo says what there is to do about a key.
func toDo(r workflows.KeyProgress) []string {
	switch {
	case r.State == workflows.UnderWay || r.State == workflows.Waiting:
		return []string{"its rotation goes on: rekey status " + r.Key}
	case r.State == workflows.NotRaised || r.State == workflows.Queued:
		return []string{fmt.Sprintf("raise it: rekey emergency %s --why …", r.Key)}
	case r.FollowUps > 0:
		return []string{"rekey status " + r.Key}
	case r.State == workflows.Failed:
		return []string{fmt.Sprintf("put it right, then: rekey emergency %s --why …", r.Key)}
	}
	return nil
}

// inFull says in the rotation's own words how it ended and what there is to do; an emergency has room for the beginning only.
func (k *finalKey) inFull(ctx context.Context, c sdkclient.Client, f workflows.EmergencyProgress) {
	res, closed, err := client.New(c).Result(ctx, k.Key)
	if err != nil || !closed || res.EndedAt.Before(f.StartedAt) {
		return // another one runs by now
	}
	k.Outcome = res.Outcome
	if len(res.FollowUps) > 0 {
		k.FollowUps = res.FollowUps
	}
}

func finalTable(f workflows.EmergencyProgress, keys []finalKey) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Emergency %s: %s\n\n", f.ID, f.Outcome)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tSTATE\tNEW KEY AFTER\tOLD KEY REFUSED AFTER\tOUTCOME")
	for _, k := range keys {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", k.Key, k.State, seconds(k.ToNewKey), seconds(k.ToRefused), k.Outcome)
	}
	_ = w.Flush()
	head := false
	for _, k := range keys {
		for _, l := range k.FollowUps {
			if !head {
				b.WriteString("\nTo do:\n")
				head = true
			}
			fmt.Fprintf(&b, "  %s: %s\n", k.Key, l)
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

func seconds(s *float64) string {
	if s == nil {
		return "-"
	}
	return length(time.Duration(*s * float64(time.Second)))
}
