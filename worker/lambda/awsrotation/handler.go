package awsrotation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/store/awssm"
)

// Secrets is what a store on AWS knows about AWS's own rotation.
type Secrets interface {
	// PathOf returns the path of a secret that AWS names by its ARN or its name; ok is false for one of another store.
	PathOf(id string) (path string, ok bool)
	// Rotation returns how the version that AWS's rotation works on is labelled.
	Rotation(ctx context.Context, id, version string) (awssm.Staged, error)
	// Release takes AWSPENDING from a version, so that AWS counts its rotation as ended. It may run twice.
	Release(ctx context.Context, path, version string) error
}

// Handler answers AWS. All fields but Interval, Patience and Log are needed.
type Handler struct {
	// Stores are the stores on AWS, by the names that keys use.
	Stores map[string]Secrets
	// Keys are those of rekey.yaml.
	Keys      []rotation.Key
	Rotations *client.Client
	// Interval is the time between two looks at a rotation; 1 s if 0.
	Interval time.Duration
	// Patience is how long a call waits for its step where the context has no deadline; 1 min if 0. With a deadline, as
	// Lambda sets it, a call waits until shortly before it.
	Patience time.Duration
	// Log gets a line for each call; nil drops them.
	Log *slog.Logger
}

// reserve is the part of a call's time that is left to answer in.
const reserve = 5 * time.Second

// ErrNotYet says that the rotation is not as far as the step asks for, and goes on. AWS tries again.
var ErrNotYet = errors.New("the rotation goes on, and is not there yet")

// Handle answers one call: nil when the rotation is as far as the step asks for. After any error AWS begins the whole
// rotation again, with the same token, so that each step may come often and late: the token never starts two rotations.
//
//   - createSecret starts the key's rotation, or joins the one that is under way. It is done when the new value is staged.
//   - setSecret is done when the value is in every store, testSecret when it was proven at the provider.
//   - finishSecret is done when applications read it in every store, which is where the contract with AWS ends: the grace
//     period and the revoke go on in the worker. It leaves AWSPENDING where AWS wants it: with AWSCURRENT, or nowhere.
//
// A rotation that rolls back, was not due, or waits for a person is an error that says so. When it is over without a new
// key, AWSPENDING is taken away, too, so that AWS's next rotation can begin with another token.
func (h *Handler) Handle(ctx context.Context, raw []byte) error {
	e, err := ParseEvent(raw)
	if err == nil {
		err = h.handle(ctx, e)
	}
	if h.Log != nil {
		level, outcome := slog.LevelInfo, "done"
		if err != nil {
			level, outcome = slog.LevelWarn, err.Error()
		}
		h.Log.Log(ctx, level, "rotation step of AWS", "step", string(e.Step), "secret", e.SecretID, "token", e.Token, "outcome", outcome)
	}
	return err
}

func (h *Handler) handle(ctx context.Context, e Event) error {
	c, err := h.find(ctx, e)
	if err != nil {
		return err
	}
	switch e.Step {
	case CreateSecret:
		return c.create(ctx)
	case SetSecret:
		return c.await(ctx, rotation.Verify)
	case TestSecret:
		return c.test(ctx)
	default:
		return c.finish(ctx)
	}
}

// call is one step of one rotation.
type call struct {
	*Handler
	Event
	key     rotation.Key
	secrets Secrets
	staged  awssm.Staged
}

// find looks which key the secret holds, and how AWS has labelled the version.
func (h *Handler) find(ctx context.Context, e Event) (*call, error) {
	var last error
	for _, name := range slices.Sorted(maps.Keys(h.Stores)) {
		path, ok := h.Stores[name].PathOf(e.SecretID)
		if !ok {
			continue
		}
		i := slices.IndexFunc(h.Keys, func(k rotation.Key) bool {
			return slices.Contains(k.Stores, rotation.Location{Store: name, Path: path})
		})
		if i < 0 {
			continue
		}
		c := &call{Handler: h, Event: e, key: h.Keys[i], secrets: h.Stores[name]}
		if c.staged, last = c.secrets.Rotation(ctx, e.SecretID, e.Token); last != nil {
			continue // another store may be of another account
		}
		if !c.staged.Enabled {
			return nil, fmt.Errorf("rotation of secret %s is not enabled, so nothing is started for key %s. Enable it in AWS: aws secretsmanager rotate-secret", path, c.key.Name)
		}
		return c, nil
	}
	if last != nil {
		return nil, last
	}
	return nil, fmt.Errorf("no key of rekey.yaml is in secret %s: give a key a store of type aws-secrets-manager in its region, with the secret's name as path", e.SecretID)
}

func (c *call) create(ctx context.Context) error {
	latest, own, err := c.Rotations.FindByToken(ctx, c.key.Name, c.Token)
	if err != nil {
		return err
	}
	if run := c.choose(latest, own); run != nil || c.staged.Current {
		return c.await(ctx, rotation.Store)
	}
	if !c.staged.Pending {
		return c.errNotStaged()
	}
	_, err = c.Rotations.Start(ctx, client.Request{
		Key: c.key, Reason: rotation.Scheduled, By: "AWS Secrets Manager", Why: "AWS's rotation of secret " + c.staged.Path,
		Token: c.Token,
	})
	if err != nil && !errors.Is(err, client.ErrRunning) {
		return err
	}
	return c.await(ctx, rotation.Store)
}

func (c *call) errNotStaged() error {
	if c.staged.Pending {
		return fmt.Errorf("no rotation of key %s was started for version %s of secret %s: AWS begins with createSecret", c.key.Name, c.Token, c.staged.Path)
	}
	return fmt.Errorf("version %s of secret %s is not staged as AWSPENDING, and no rotation of key %s was started for it: AWS has ended or never begun this rotation", c.Token, c.staged.Path, c.key.Name)
}

// test takes AWS's test of a new configuration for what it is: testSecret alone, for a version that no rotation was
// started for. That this call came so far is what it is to show.
func (c *call) test(ctx context.Context) error {
	latest, own, err := c.Rotations.FindByToken(ctx, c.key.Name, c.Token)
	if err != nil {
		return err
	}
	if c.staged.Pending && c.choose(latest, own) == nil {
		return nil
	}
	return c.await(ctx, rotation.Promote)
}

func (c *call) finish(ctx context.Context) error {
	if err := c.await(ctx, rotation.Grace); err != nil {
		return err
	}
	return c.release(ctx)
}

// release ends the rotation in AWS.
func (c *call) release(ctx context.Context) error {
	return c.secrets.Release(ctx, c.staged.Path, c.Token)
}

// choose says which rotation serves the token: its own if that has made a new key, else the one that is under way, else
// its own that failed. One that others started serves it, too, if it ended well after AWS had begun: it was joined.
func (c *call) choose(latest, own *client.Run) *client.Run {
	switch {
	case own != nil && replaced(own):
		return own
	case latest != nil && latest.Running:
		return latest
	case own != nil:
		return own
	case latest != nil && replaced(latest) && !c.staged.MadeAt.IsZero() && latest.ClosedAt.After(c.staged.MadeAt):
		return latest
	}
	return nil
}

// replaced reports whether a rotation ended with another key than it began with.
func replaced(r *client.Run) bool {
	return r.Result != nil && r.Result.Phase == rotation.Completed && !r.Result.NotDue && reached(r.Result.Trail, rotation.Promote)
}

// await waits until the rotation has reached a phase.
func (c *call) await(ctx context.Context, want rotation.Phase) error {
	limited, cancel := c.bounded(ctx)
	defer cancel()
	why := errors.New("it has just begun")
	for {
		done, err := c.look(ctx, limited, want, &why)
		if done || err != nil {
			return err
		}
		select {
		case <-limited.Done():
			return fmt.Errorf("key %s: %w: %w. AWS tries this step again", c.key.Name, ErrNotYet, why)
		case <-time.After(c.interval()):
		}
	}
}

// look asks once how far the rotation is. Where that cannot be answered now, why says so; an answer that only came too
// late for this call says nothing.
func (c *call) look(ctx, limited context.Context, want rotation.Phase, why *error) (done bool, err error) {
	unclear := func(err error) {
		if end, ok := limited.Deadline(); !ok || time.Until(end) > tooLate {
			*why = err
		}
	}
	latest, own, err := c.Rotations.FindByToken(limited, c.key.Name, c.Token)
	if err != nil {
		unclear(err)
		return false, nil
	}
	run := c.choose(latest, own)
	switch {
	case run == nil && c.staged.Current:
		return true, nil // Temporal has forgotten it, and applications read its value
	case run == nil:
		return false, c.errNotStaged()
	case !run.Running:
		return true, c.over(ctx, run)
	}
	status, err := c.Rotations.Status(limited, c.key.Name)
	if err != nil {
		unclear(errors.New("no worker answers for it"))
		return false, nil //nolint:nilerr // it is asked again
	}
	*why = fmt.Errorf("it is in phase %s", status.Phase)
	return progress(status, want)
}

// tooLate is when an error can come from the end of the call's time.
const tooLate = 50 * time.Millisecond

func (h *Handler) interval() time.Duration {
	if h.Interval == 0 {
		return time.Second
	}
	return h.Interval
}

// bounded leaves time to answer before Lambda ends the call.
func (h *Handler) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); ok {
		return context.WithDeadline(ctx, deadline.Add(-min(reserve, time.Until(deadline)/2)))
	}
	patience := h.Patience
	if patience == 0 {
		patience = time.Minute
	}
	return context.WithTimeout(ctx, patience)
}

// over judges a rotation that has ended.
func (c *call) over(ctx context.Context, run *client.Run) error {
	if replaced(run) {
		return nil
	}
	err := fmt.Errorf("the rotation of key %s was ended from outside; what it left is finished by the next one", c.key.Name)
	if r := run.Result; r != nil && r.NotDue {
		err = fmt.Errorf("key %s was not rotated, because it is not due. %s Let AWS rotate less often than the key's period, or rotate it by hand: rekey rotate %s", c.key.Name, r.Outcome, c.key.Name)
	} else if r != nil {
		err = fmt.Errorf("key %s was not rotated (%s): %s", c.key.Name, r.Phase, r.Outcome)
	}
	return errors.Join(err, c.release(ctx))
}

// forward are the phases that a step of AWS waits for, in their order.
var forward = []rotation.Phase{rotation.Store, rotation.Verify, rotation.Promote}

// reached reports whether a rotation has come to a phase of its way forward, or past it. Only a rotation that makes a new
// key goes through promote; one that finishes what another has left begins with grace.
func reached(trail []rotation.TrailEntry, want rotation.Phase) bool {
	has := func(p rotation.Phase) bool {
		return slices.ContainsFunc(trail, func(e rotation.TrailEntry) bool { return e.Phase == p })
	}
	if want == rotation.Grace {
		return has(rotation.Grace) && has(rotation.Promote)
	}
	return slices.ContainsFunc(forward[slices.Index(forward, want):], has)
}

// progress reports whether a running rotation is far enough, and fails where only a person can help.
func progress(s rotation.Status, want rotation.Phase) (done bool, err error) {
	switch {
	case s.Phase == rotation.RollingBack:
		return false, fmt.Errorf("the rotation of key %s is rolling back to the old key", s.Key)
	case reached(s.Trail, want):
		return true, nil
	case s.Phase.Waiting() || s.Overdue:
		return false, fmt.Errorf("the rotation of key %s waits for a person (%s). Look at what to do: rekey status %s. AWS tries again by itself", s.Key, s.Phase, s.Key)
	case slices.ContainsFunc(s.Trail, func(e rotation.TrailEntry) bool { return e.Phase == rotation.Grace }):
		return false, fmt.Errorf("the rotation of key %s makes no new key: it revokes what an earlier one has left", s.Key)
	}
	return false, nil
}
