package awssm_test

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
	"github.com/rekeyhq/rekey/store/storetest"
)

const lambda = "arn:aws:lambda:eu-central-1:123456789012:function:rekey"

// rotates makes a secret on which a rotation of AWS's own has begun, and returns its token.
func (p *place) rotates(t *testing.T, v secret.Value) (path, token string) {
	t.Helper()
	path, token = p.path(t, v), strings.Repeat("5", 36)
	p.sm.DeployLambda(lambda, func(context.Context, []byte) error { return nil })
	_, err := p.operator().RotateSecret(ctx, &secretsmanager.RotateSecretInput{SecretId: &path, ClientRequestToken: &token, RotationLambdaARN: aws.String(lambda)})
	must(t, err)
	return path, token
}

func TestAValueGoesIntoTheVersionThatAWSHasMadeForIt(t *testing.T) {
	p := newPlace(t, simcloud.AWSSecretsOptions{})
	path, token := p.rotates(t, first)
	must(t, p.store.Check(ctx, path))
	numbers, err := p.store.Versions(ctx, path)
	must(t, err)
	if len(numbers) != 1 {
		t.Fatalf("versions %v: one of them has no value", numbers)
	}
	snap, v := storetest.Staged(t, p.store, path, other)
	if v.Number != token {
		t.Fatalf("the value is version %s, want %s", v.Number, token)
	}
	_, err = p.store.Promote(ctx, path, snap, v)
	must(t, err)
	p.published(t, path, other)
	if at := p.on(path, "AWSPENDING"); at != "" && at != token {
		t.Fatalf("AWSPENDING is left on %s", at)
	}
}

func TestTheSecondValueOfARotationOfAWSGetsAVersionOfItsOwn(t *testing.T) {
	p := newPlace(t, simcloud.AWSSecretsOptions{})
	path, token := p.rotates(t, first)
	snap := storetest.Claimed(t, p.store, path)
	p.inject(simcloud.LoseReply, put, "", 0)(t, path)
	_, err := p.store.Add(ctx, path, other)
	storetest.Refused(t, err, fault.Unavailable)
	// The attempt that lost its answer tries once more, and then another attempt has another value.
	number, err := p.store.Add(ctx, path, other)
	must(t, err)
	if number != token {
		t.Fatalf("the same value is version %s, want %s", number, token)
	}
	number, err = p.store.Add(ctx, path, third)
	must(t, err)
	if number == token {
		t.Fatal("AWS does not change versions")
	}
	v := store.Version{Number: number, Fingerprint: third.Fingerprint()}
	snap.Pending = &v
	snap, err = p.store.Save(ctx, path, snap)
	must(t, err)
	if at := p.on(path, "AWSPENDING"); at != number {
		t.Fatalf("AWSPENDING is on %s, want %s", at, number)
	}
	_, err = p.store.Promote(ctx, path, snap, v)
	must(t, err)
	p.published(t, path, third)
}

func TestAnEmptySecretThatAWSRotatesKeepsItsFirstValueBackUntilPromote(t *testing.T) {
	p := newPlace(t, simcloud.AWSSecretsOptions{})
	path, _ := p.rotates(t, secret.Value{})
	snap, v := storetest.Staged(t, p.store, path, first)
	_, err := p.store.Published(ctx, path)
	storetest.Refused(t, err, fault.NotFound)
	_, err = p.store.Promote(ctx, path, snap, v)
	must(t, err)
	p.published(t, path, first)
}

func TestWhatAWSSeesOfARotationIsToldByNameAndByARN(t *testing.T) {
	p := newPlace(t, simcloud.AWSSecretsOptions{})
	path, token := p.rotates(t, first)
	d, err := p.operator().DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &path})
	must(t, err)
	for _, id := range []string{path, *d.ARN} {
		got, err := p.store.Rotation(ctx, id, token)
		must(t, err)
		if got.Path != path || !got.Enabled || !got.Pending || got.Current || got.MadeAt.IsZero() {
			t.Errorf("%s: %+v", id, got)
		}
	}
	got, err := p.store.Rotation(ctx, path, strings.Repeat("6", 36))
	must(t, err)
	if got.Pending || !got.MadeAt.IsZero() {
		t.Errorf("an unknown token: %+v", got)
	}
	_, err = p.store.Rotation(ctx, (*d.ARN)[:len(*d.ARN)-6]+"AAAAAA", token)
	storetest.Refused(t, err, fault.NotFound, "another ARN")
	for _, id := range []string{strings.Replace(*d.ARN, "eu-central-1", "us-east-1", 1), "arn:aws:s3:::x", "rekey/" + path} {
		_, err = p.store.Rotation(ctx, id, token)
		storetest.Refused(t, err, fault.Rejected)
	}
}

func TestReleaseTakesAWSPendingFromThatVersionOnly(t *testing.T) {
	p := newPlace(t, simcloud.AWSSecretsOptions{})
	path, token := p.rotates(t, first)
	must(t, p.store.Release(ctx, path, strings.Repeat("6", 36)))
	if p.on(path, "AWSPENDING") != token {
		t.Fatal("another version was released")
	}
	for range 2 {
		must(t, p.store.Release(ctx, path, token))
		if p.on(path, "AWSPENDING") != "" {
			t.Fatal("AWSPENDING is still there")
		}
	}
}
