package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// The examples run against a Temporal and rekey's workers in this process. temporal is a connection to it, as
// go.temporal.io/sdk/client makes one; keys are the keys of a rekey.yaml.

func ExampleClient_Start() {
	ctx := context.Background()
	c := client.New(temporal)

	run, err := c.Start(ctx, client.Request{Key: keys["ci-deploy"], By: "ada@example.com", Why: "a laptop was lost"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("started", run.GetID())

	// One rotation of a key at a time.
	_, err = c.Start(ctx, client.Request{Key: keys["ci-deploy"], By: "kim@example.com"})
	fmt.Println("running already:", errors.Is(err, client.ErrRunning))

	// Output:
	// started rotate/ci-deploy
	// running already: true
}

func ExampleClient_Wait() {
	ctx := context.Background()
	c := client.New(temporal)

	if _, err := c.Start(ctx, client.Request{Key: keys["ci-build"], By: "ada@example.com"}); err != nil {
		log.Fatal(err)
	}
	res, err := c.Wait(ctx, "ci-build")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, %d key revoked\n", res.Phase, len(res.Revoked))

	// Output: completed, 1 key revoked
}

func ExampleClient_Watch() {
	ctx := context.Background()
	c := client.New(temporal)

	if _, err := c.Start(ctx, client.Request{Key: keys["ci-test"], By: "ada@example.com"}); err != nil {
		log.Fatal(err)
	}
	for step, err := range c.Watch(ctx, "ci-test") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(step.Phase)
	}

	// Output:
	// prepare
	// create
	// verify
	// promote
	// grace
	// guard
	// revoke
	// confirm
	// retire
	// completed
}

func ExampleClient_Decide() {
	ctx := context.Background()
	c := client.New(temporal)

	// Nobody but a person can make this key, so its rotation waits for one.
	if _, err := c.Start(ctx, client.Request{Key: keys["openai-prod"], By: "ada@example.com"}); err != nil {
		log.Fatal(err)
	}
	for step, err := range c.Watch(ctx, "openai-prod") {
		if err != nil {
			log.Fatal(err)
		}
		if step.Phase == rotation.AwaitingKey {
			// Instead of making a key, somebody changes their mind.
			_, err := c.Decide(ctx, "openai-prod", rotation.RollBack, rotation.DecisionMessage{By: "kim@example.com", Why: "not before the release"})
			if err != nil {
				log.Fatal(err)
			}
		}
		if step.Result != nil {
			fmt.Println(step.Result.Phase)
		}
	}

	// Output: rolled-back
}

func ExampleClient_StartEmergency() {
	ctx := context.Background()
	c := client.New(temporal)

	// The same id again does no harm, so it may be sent until somebody answers.
	err := c.StartEmergency(ctx, workflows.EmergencyInput{
		ID: "laptop-stolen", Keys: []string{"laptop-1", "laptop-2"},
		Message: rotation.DecisionMessage{By: "ada@example.com", Why: "a laptop was stolen"},
	})
	if err != nil {
		log.Fatal(err)
	}
	progress, err := c.WaitEmergency(ctx, "laptop-stolen")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("complete: %v, %d of %d keys done\n", progress.Complete(), progress.Counts()[workflows.Done], len(progress.Keys))

	// Output: complete: true, 2 of 2 keys done
}
