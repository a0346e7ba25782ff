package workflows_test

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// goldenCase is a rotation whose details are compared now and then.
type goldenCase struct {
	name  string
	setup setup
	play  func(*golden)
}

// during looks while an activity runs for the first time.
func (g *golden) during(activity, name string) { g.whenStarted(activity, func() { g.see(name) }) }

// at looks when the clock has come that far, and then does something.
func (g *golden) at(d time.Duration, name string, then ...func()) {
	g.after(d, func() {
		g.see(name)
		for _, f := range then {
			f()
		}
	})
}

func (g *golden) send(kind rotation.DecisionKind) func() {
	return func() { g.signal(kind, rotation.DecisionMessage{}) }
}

// finish runs the rotation to its end and looks at it.
func (g *golden) finish(name string) rotation.Result {
	g.Helper()
	res := g.run()
	g.see(name)
	return res
}

func (g *golden) revokeOld() {
	if err := g.OpenAI.DeleteKey(g.oldID); err != nil {
		g.Error(err)
	}
	g.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
}

// used is a provider that knows when a key was last used, which none of the real ones does yet.
type used struct {
	provider.Provider
	last func() time.Time
}

func (u used) Capabilities() provider.Capabilities {
	c := u.Provider.Capabilities()
	c.Usage = true
	return c
}

func (u used) Usage(context.Context, string, string) (provider.Usage, error) {
	return provider.Usage{LastUsed: u.last()}, nil
}

func (g *golden) lastUsed(f func() time.Time) {
	g.acts.Providers["google"] = used{g.acts.Providers["google"], f}
}

func goldenCases() []goldenCase {
	return slices.Concat(straightCases(), rollBackCases(), blockedCases(), questionCases(), emergencyCases())
}

// straightCases are those of rotations that end well.
func straightCases() []goldenCase {
	return []goldenCase{
		{"a key that the provider's API makes and revokes", bothStores(), func(g *golden) {
			for _, step := range []string{"Prepare", "Create", "Store", "Verify", "Promote", "Guard", "Confirm", "Retire"} {
				g.during(step, "google-"+strings.ToLower(step))
			}
			g.at(day, "google-grace")
			g.at(2*day+30*time.Minute, "google-revoke")
			g.finish("google-completed")
		}},
		{"a key that a person makes and revokes", manualKey().policy("approve: true"), func(g *golden) {
			for _, step := range []string{"Prepare", "Adopt", "Verify", "Promote", "Guard", "Confirm", "Retire"} {
				g.during(step, "openai-"+strings.ToLower(step))
			}
			g.at(time.Hour, "openai-awaiting-key", func() { g.supply() })
			g.at(day, "openai-grace")
			g.at(3*day, "openai-awaiting-approval", g.send(rotation.Approve))
			g.at(4*day, "openai-awaiting-revocation", g.revokeOld)
			g.finish("openai-completed")
		}},
		{"a key that is not due", bothStores(), func(g *golden) {
			g.in.Reason = rotation.Scheduled
			g.finish("google-not-due")
		}},
		{"a grace period that was extended, up to its cap", bothStores().policy(quick), func(g *golden) {
			g.after(day, func() {
				g.signal(rotation.ExtendGrace, rotation.DecisionMessage{By: "o", Why: "a slow application", For: rotation.Duration(day)})
				g.after(time.Minute, func() { g.see("google-grace-extended") })
			})
			g.after(day+time.Hour, func() {
				g.signal(rotation.ExtendGrace, rotation.DecisionMessage{By: "o", Why: "a slower one", For: rotation.Duration(90 * day)})
				g.after(time.Minute, func() { g.see("google-grace-at-cap") })
			})
			g.run()
		}},
	}
}

// rollBackCases are those of rotations that roll back.
func rollBackCases() []goldenCase {
	return []goldenCase{
		{"a roll-back before the promote", bothStores(), func(g *golden) {
			g.whenStarted("Store", g.send(rotation.RollBack))
			g.during("Discard", "google-rolling-back")
			g.finish("google-rolled-back")
		}},
		{"a roll-back in grace", bothStores(), func(g *golden) {
			g.after(day, g.send(rotation.RollBack))
			g.whenStarted("Verify", func() {})
			g.whenStarted("Promote", func() {})
			for _, step := range []string{"Verify", "Promote", "Guard", "Confirm", "Retire"} {
				g.during(step, "google-reverse-"+strings.ToLower(step))
			}
			g.at(2*day, "google-reverse-grace")
			g.at(3*day+30*time.Minute, "google-reverse-revoke")
			g.finish("google-reverse-rolled-back")
		}},
		{"a roll-back in grace of a key that a person revokes", manualKey().policy("approve: true"), func(g *golden) {
			var id string
			g.after(time.Hour, func() { id = g.supply() })
			g.after(day, g.send(rotation.RollBack))
			g.at(4*day, "openai-reverse-awaiting-approval", g.send(rotation.Approve))
			g.at(5*day, "openai-reverse-awaiting-revocation", func() {
				_ = g.OpenAI.DeleteKey(id)
				g.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
			})
			g.finish("openai-reverse-rolled-back")
		}},
		{"nobody supplies a key", manualKey(), func(g *golden) { g.finish("openai-rolled-back-deadline") }},
		{"a supplied key, and then a roll-back", manualKey(), func(g *golden) {
			g.whenStarted("Verify", g.send(rotation.RollBack))
			g.after(time.Hour, func() { g.supply() })
			g.finish("openai-rolled-back-supplied")
		}},
		{"a new key that the provider refuses", bothStores(), func(g *golden) {
			g.Cloud.SetTiming(simcloud.Timing{Propagation: 100 * day})
			g.finish("google-rolled-back-refused")
		}},
	}
}

// blockedCases are those in which something is in the way.
func blockedCases() []goldenCase {
	return []goldenCase{
		{"a store that is down", bothStores(), func(g *golden) {
			heal := g.Cloud.Inject(simcloud.Fault{Service: "secret-manager", Kind: simcloud.Refuse, Code: 503})
			g.at(10*time.Second, "google-stalled")
			g.at(time.Hour, "google-stalled-long")
			g.at(8*day, "google-stalled-overdue", heal)
			g.run()
		}},
		{"a mint that fails again and again", bothStores(), func(g *golden) {
			heal := g.Cloud.Inject(simcloud.Fault{Service: "google-iam", Method: "UploadServiceAccountKey", Kind: simcloud.Refuse, Code: 403})
			g.at(2*time.Hour, "google-create-stalled", heal)
			g.run()
		}},
		{"a promote that fails on the second store", bothStores(), func(g *golden) {
			var heal func()
			g.whenStarted("Promote", func() {
				heal = g.Cloud.Inject(simcloud.Fault{Service: "secret-manager", Method: "AddSecretVersion", Target: "ci-latest", Kind: simcloud.Refuse, Code: 503})
			})
			g.at(2*time.Hour, "google-promote-stalled", func() { heal() })
			g.run()
		}},
		{"a revocation that nobody makes", manualKey(), func(g *golden) {
			g.after(time.Hour, func() { g.supply() })
			g.at(30*day, "openai-awaiting-revocation-overdue", g.revokeOld)
			g.run()
		}},
		{"answers that cannot be used while a key is waited for", manualKey(), func(g *golden) {
			g.after(time.Hour, func() { g.signal(rotation.KeySupplied, rotation.DecisionMessage{By: "o", Version: "99"}) })
			g.at(2*time.Hour, "openai-awaiting-key-no-version", func() { g.signal(rotation.KeySupplied, rotation.DecisionMessage{By: "o", Version: "1"}) })
			g.at(3*time.Hour, "openai-awaiting-key-old-version", func() {
				_, v := g.OpenAI.CreateKey("proj_other", "x")
				n, err := g.SM.AddVersion("gpt", v)
				if err != nil {
					g.Error(err)
				}
				g.signal(rotation.KeySupplied, rotation.DecisionMessage{By: "o", Version: itoa(n)})
			})
			g.at(4*time.Hour, "openai-awaiting-key-other-project", func() { g.env.SignalWorkflow(string(rotation.KeySupplied), []int{1, 2, 3}) })
			g.at(5*time.Hour, "openai-awaiting-key-unreadable", func() { g.signal(rotation.KeyRevoked, rotation.DecisionMessage{}) })
			g.at(6*time.Hour, "openai-awaiting-key-wrong-phase", g.send(rotation.RollBack))
			g.finish("openai-rolled-back-left")
		}},
		{"a long note full of markup", manualKey(), func(g *golden) {
			g.after(time.Hour, func() {
				g.signal(rotation.AddNote, rotation.DecisionMessage{By: "o", Why: strings.Repeat("<b>[look](http://x)</b> ", 20)})
				g.signal(rotation.KeySupplied, rotation.DecisionMessage{By: "o", Version: strings.Repeat("<9> ", 300)})
			})
			g.at(2*time.Hour, "openai-awaiting-key-long-note", g.send(rotation.RollBack))
			g.run()
		}},
		{"a key in a message", manualKey(), func(g *golden) {
			_, v := g.OpenAI.CreateKey(scenario.OpenAIProject("gpt"), "pasted")
			g.after(time.Hour, func() { g.env.SignalWorkflow(string(rotation.KeySupplied), v.Reveal()) })
			g.at(2*time.Hour, "openai-awaiting-key-exposed", g.send(rotation.RollBack))
			g.finish("openai-rolled-back-exposed")
		}},
		{"a revocation that is reported too early", manualKey(), func(g *golden) {
			g.after(time.Hour, func() { g.supply() })
			g.after(day, g.send(rotation.KeyRevoked))
			g.at(day+time.Hour, "openai-grace-early")
			g.after(4*day, g.revokeOld)
			g.run()
		}},
		{"a revocation that is claimed and did not happen", manualKey(), func(g *golden) {
			g.after(time.Hour, func() { g.supply() })
			g.after(3*day, g.send(rotation.KeyRevoked))
			g.at(3*day+30*time.Second, "openai-confirm-stalled")
			g.at(4*day, "openai-awaiting-revocation-not-revoked", g.revokeOld)
			g.run()
		}},
	}
}

// questionCases are the questions that a person decides.
func questionCases() []goldenCase {
	created := bothStores()
	created.opts.Mode = "create"
	claim := func(g *golden, store, path string) {
		s := g.acts.Stores[store]
		snap, err := s.Load(context.Background(), path)
		if err == nil {
			snap.Install = "other1"
			_, err = s.Save(context.Background(), path, snap)
		}
		if err != nil {
			g.Error(err)
		}
	}
	return []goldenCase{
		{"another installation keeps the store", bothStores(), func(g *golden) {
			claim(g, scenario.Alias, "ci")
			g.at(time.Hour, "question-foreign-claim", g.send(rotation.Reject))
			g.finish("question-foreign-claim-rejected")
		}},
		{"another installation takes the store while a key is waited for", manualKey(), func(g *golden) {
			g.after(time.Hour, func() {
				claim(g, scenario.Alias, "gpt")
				g.supply()
			})
			g.at(2*time.Hour, "question-foreign-claim-supplied", g.send(rotation.Reject))
			g.run()
		}},
		{"keys that nobody can prove", created, func(g *golden) {
			g.Cloud.Inject(simcloud.Fault{Service: "google-iam", Method: "CreateServiceAccountKey", Times: 1, Kind: simcloud.LoseReply})
			g.at(time.Hour, "question-unproven-keys", g.send(rotation.Approve))
			g.run()
		}},
		{"the policy wants an approval", bothStores().policy("approve: true", "quiet: 0s"), func(g *golden) {
			g.lastUsed(func() time.Time { return time.Time{} })
			g.at(3*day, "question-revoke-policy", g.send(rotation.Approve))
			g.run()
		}},
		{"nobody knows whether the old key is in use", bothStores().policy("unknown_use: approve"), func(g *golden) {
			g.at(3*day, "question-use-unknown", g.send(rotation.Approve))
			g.run()
		}},
		{"nobody knows, and the policy never goes on by itself", bothStores().policy("unknown_use: never"), func(g *golden) {
			g.at(3*day, "question-use-unknown-never", g.send(rotation.Approve))
			g.run()
		}},
		{"the old key is in use to the end", bothStores().policy("max_grace: 4d", "quiet: 1h"), func(g *golden) {
			g.lastUsed(func() time.Time { return g.now() })
			g.at(2*day+10*time.Minute, "google-grace-in-use")
			g.at(5*day, "question-key-in-use", g.send(rotation.Approve))
			g.run()
		}},
		{"both keys die in grace", manualKey(), func(g *golden) {
			var id string
			g.after(time.Hour, func() { id = g.supply() })
			g.after(2*time.Hour, func() {
				g.rules.MayDie = []string{id, g.oldID}
				_, _ = g.OpenAI.DeleteKey(id), g.OpenAI.DeleteKey(g.oldID)
			})
			g.at(20*time.Hour, "question-keys-refused", g.send(rotation.Approve))
			g.after(21*time.Hour, func() { g.env.CancelWorkflow() })
			// Nobody makes a key work again, so it would never end.
			g.at(22*time.Hour, "question-no-way-back-both-dead", func() { g.env.SetContinueAsNewSuggested(true) }, g.send(rotation.Approve))
			g.env.ExecuteWorkflow(workflows.RotateKey, g.in)
		}},
		{"the wrong key was revoked", manualKey(), func(g *golden) {
			var id string
			g.after(time.Hour, func() { id = g.supply() })
			g.after(3*day, func() {
				g.rules.MayDie = []string{id}
				_ = g.OpenAI.DeleteKey(id)
				g.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
			})
			g.at(4*day, "question-new-refused", g.send(rotation.Reject))
			g.after(7*day, g.send(rotation.KeyRevoked))
			g.finish("openai-rolled-back-wrong-key-revoked")
		}},
		{"a roll-back to a key that is dead", manualKey(), func(g *golden) {
			g.after(time.Hour, func() { g.supply() })
			g.after(2*time.Hour, func() {
				g.rules.MayDie = []string{g.oldID}
				_ = g.OpenAI.DeleteKey(g.oldID)
				g.signal(rotation.RollBack, rotation.DecisionMessage{})
			})
			g.at(day, "question-no-way-back", g.send(rotation.Approve))
			g.after(5*day, g.send(rotation.KeyRevoked))
			g.run()
		}},
		{"a key that cannot be revoked", bothStores().policy(quick), func(g *golden) {
			heal := g.Cloud.Inject(simcloud.Fault{Service: "google-iam", Method: "DeleteServiceAccountKey", Kind: simcloud.Refuse, Code: 400})
			g.at(3*day, "question-not-revoked", heal, g.send(rotation.Approve))
			g.run()
		}},
		{"old versions that cannot be cleared", bothStores().policy(quick), func(g *golden) {
			heal := g.Cloud.Inject(simcloud.Fault{Service: "secret-manager", Method: "DestroySecretVersion", Kind: simcloud.Refuse, Code: 400})
			g.at(3*day, "question-not-cleared", heal, g.send(rotation.Approve))
			g.run()
		}},
	}
}

// emergencyCases are those of emergencies.
func emergencyCases() []goldenCase {
	first := []rotation.Decision{{DecisionMessage: rotation.DecisionMessage{By: "o", Why: "w", RevokeFirst: true}}}
	return []goldenCase{
		{"an emergency", manualKey(), func(g *golden) {
			g.in.Reason = rotation.Emergency
			g.at(time.Hour, "emergency-awaiting-key", func() { g.supply() })
			g.at(2*time.Hour, "emergency-awaiting-revocation", g.revokeOld)
			g.finish("emergency-completed")
		}},
		{"an emergency that revokes first, by hand", manualKey(), func(g *golden) {
			g.rules.MayDie = []string{g.oldID}
			g.in.Reason, g.in.Emergencies = rotation.Emergency, first
			g.at(time.Hour, "emergency-revoke-first-awaiting-revocation", g.revokeOld)
			g.at(2*time.Hour, "emergency-revoke-first-awaiting-key", func() { g.supply() })
			g.run()
		}},
		{"an emergency that revokes first, by API", bothStores(), func(g *golden) {
			g.rules.MayDie = []string{g.oldID}
			g.in.Reason, g.in.Emergencies = rotation.Emergency, first
			heal := g.Cloud.Inject(simcloud.Fault{Service: "google-iam", Method: "UploadServiceAccountKey", Kind: simcloud.Refuse, Code: 400})
			g.during("Revoke", "emergency-revoke-first-revoke")
			g.at(time.Hour, "question-cannot-go-on", heal, g.send(rotation.Approve))
			g.run()
		}},
		{"an emergency with a grace period", bothStores(), func(g *golden) {
			g.in.Reason = rotation.Emergency
			g.in.Emergencies = []rotation.Decision{{DecisionMessage: rotation.DecisionMessage{By: "o", Why: "w", For: rotation.Duration(2 * time.Hour)}}}
			g.at(time.Hour, "emergency-grace")
			g.run()
		}},
		{"an emergency that rolls back", bothStores(), func(g *golden) {
			g.in.Reason = rotation.Emergency
			g.Cloud.Inject(simcloud.Fault{Service: "google-iam", Method: "UploadServiceAccountKey", Kind: simcloud.Refuse, Code: 400})
			g.finish("emergency-rolled-back")
		}},
	}
}
