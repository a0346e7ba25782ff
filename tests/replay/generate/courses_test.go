package generate

import (
	"context"
	"errors"
	"time"

	secretmanager "cloud.google.com/go/secretmanager/apiv1"
	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/tests/replay/corpus"
	"github.com/rekeyhq/rekey/workflows"
)

// course is a way in which a rotation comes to states.
type course struct {
	name string
	// fits: rotations of a shape can go this way; nil for all.
	fits func(corpus.Shape) bool
	// set prepares the stage, and may change what the rotation is started with.
	set func(s *stage, in *workflows.Input) error
}

func at(c rotation.Commitment, step rotation.Step) rotation.State {
	return rotation.State{Step: step, Commitment: c}
}

func automatic(s corpus.Shape) bool { return !s.ByHand }

// rollBackAt asks to roll back where a state is entered.
func rollBackAt(states ...rotation.State) func(*stage, *workflows.Input) error {
	return func(s *stage, _ *workflows.Input) error {
		for _, state := range states {
			s.at[state] = func() error {
				return s.send(rotation.RollBack, rotation.DecisionMessage{Why: "the new key is no good"})
			}
		}
		return nil
	}
}

// refused lets the first request of an activity be refused, for good.
func refused(s *stage, activity string) {
	s.before[activity] = func() error {
		s.Cloud.Inject(simcloud.Fault{Kind: simcloud.Refuse, Code: 400, Times: 1})
		return nil
	}
}

// claimed lets another installation claim the key.
func claimed(s *stage) error {
	first := s.Acts.Stores[scenario.Alias]
	snap, err := first.Load(context.Background(), "key")
	if err == nil {
		snap.Install = "other1"
		_, err = first.Save(context.Background(), "key", snap)
	}
	return err
}

// lose destroys every version of a secret, which no store of rekey's would do.
func lose(endpoint, secret string) error {
	ctx := context.Background()
	sm, err := secretmanager.NewClient(ctx, option.WithEndpoint(endpoint), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		return err
	}
	defer func() { _ = sm.Close() }()
	versions := sm.ListSecretVersions(ctx, &secretmanagerpb.ListSecretVersionsRequest{Parent: "projects/" + scenario.Project + "/secrets/" + secret})
	for {
		v, err := versions.Next()
		switch {
		case errors.Is(err, iterator.Done):
			return nil
		case err != nil:
			return err
		case v.GetState() == secretmanagerpb.SecretVersion_DESTROYED:
			continue
		}
		if _, err := sm.DestroySecretVersion(ctx, &secretmanagerpb.DestroySecretVersionRequest{Name: v.GetName()}); err != nil {
			return err
		}
	}
}

// raise makes an emergency of a rotation.
func raise(m rotation.DecisionMessage) func(*stage, *workflows.Input) error {
	m.By, m.Why = "test", "it leaked"
	return func(_ *stage, in *workflows.Input) error {
		in.Reason, in.Emergencies = rotation.Emergency, []rotation.Decision{{DecisionMessage: m}}
		return nil
	}
}

// courses are in the order in which a turn is looked for on them.
var courses = []course{
	{name: "plain"},
	{name: "reverse", set: rollBackAt(at(rotation.BothKeys, rotation.StepRecheck))},
	{name: "enable", fits: automatic, set: rollBackAt(at(rotation.BothKeys, rotation.StepSoak))},
	{name: "discard", set: rollBackAt(at(rotation.Staged, rotation.StepVerify))},
	{name: "discard-refused", set: func(s *stage, in *workflows.Input) error {
		refused(s, activities.DiscardName)
		return rollBackAt(at(rotation.Staged, rotation.StepVerify))(s, in)
	}},
	{name: "given-up", set: rollBackAt(at(rotation.Looking, rotation.StepPrepare))},
	{name: "claimed", set: func(s *stage, _ *workflows.Input) error { return claimed(s) }},
	{name: "claimed-later", set: func(s *stage, _ *workflows.Input) error {
		s.before[activities.CreateName] = func() error { return claimed(s) }
		s.before[activities.AdoptName] = func() error { return claimed(s) }
		return nil
	}},
	{name: "conflicts", set: func(_ *stage, in *workflows.Input) error {
		in.Key.ConflictsWith = []string{"another"}
		return nil
	}},
	{name: "not-due", set: func(s *stage, in *workflows.Input) error {
		in.Reason, s.after = rotation.Scheduled, time.Hour
		// Of the first key of a world nobody may know how old it is.
		_, _, err := s.Start(context.Background(), 0, workflows.Input{Key: s.Key, Reason: rotation.Manual, By: "test"})
		return err
	}},
	{name: "revoke-first", set: raise(rotation.DecisionMessage{RevokeFirst: true})},
	{name: "leaked-with-grace", set: raise(rotation.DecisionMessage{For: rotation.Duration(2 * time.Hour)})},
	{name: "retire-refused", set: func(s *stage, _ *workflows.Input) error {
		refused(s, activities.RetireName)
		return nil
	}},
	// The rotation before ended in grace, from outside.
	{name: "finish", set: func(s *stage, in *workflows.Input) error {
		s.at[at(rotation.BothKeys, rotation.StepGrace)] = func() error {
			return s.Temporal.TerminateWorkflow(context.Background(), workflows.ID(s.Key.Name), "", "the course says so")
		}
		_, _, err := s.Start(context.Background(), time.Duration(s.Key.Policy.Period), *in)
		in.Reason, s.after = rotation.Scheduled, time.Hour
		return err
	}},
	// One store lost the old value: it gets it on the way back.
	{name: "restored", fits: func(s corpus.Shape) bool { return s.TwoStores }, set: func(s *stage, in *workflows.Input) error {
		if err := lose(s.SM.Endpoint, s.Key.Stores[1].Path); err != nil {
			return err
		}
		return rollBackAt(at(rotation.BothKeys, rotation.StepRecheck))(s, in)
	}},
}
