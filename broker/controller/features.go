package controller

import (
	"context"
	"slices"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// Feature is something whose level the whole cluster agrees on (KIP-584).
type Feature struct {
	Name     string
	Min, Max int16 // levels that this program can work at; 0 is "off"
	Default  int16 // level of a new instance
}

// Kinds of a FeatureUpdate.
// Source: KIP-778.
const (
	Upgrade         int8 = 1
	SafeDowngrade   int8 = 2
	UnsafeDowngrade int8 = 3
)

// FeatureUpdate wishes one feature at a level. Kind says which way the client means to go.
type FeatureUpdate struct {
	Name  string
	Level int16
	Kind  int8
}

// FinalizeFeatures gives a new instance the default level of each feature. It does
// nothing where that was done before: levels that are there are for an operator to
// change.
func (c *Controller) FinalizeFeatures(ctx context.Context) error {
	d, end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	var records []metadata.Record
	for _, f := range c.o.Features {
		if _, done := d.img.Features()[f.Name]; done {
			return nil
		}
		if f.Default > 0 {
			records = append(records, &metadata.FeatureSet{Name: f.Name, Level: f.Default})
		}
	}
	if len(records) == 0 {
		return nil
	}
	_, err = c.quorum.Propose(ctx, records)
	return err
}

// UpdateFeatures changes the levels of features, all of them or none; errors by
// position. Where some are refused, those that are not have no error of their own.
func (c *Controller) UpdateFeatures(ctx context.Context, us []FeatureUpdate, validateOnly bool) []error {
	d, end, err := c.begin(ctx)
	if err != nil {
		return same(len(us), err)
	}
	defer end()
	records, errs := d.updateFeatures(c.o.Features, us)
	if validateOnly || len(records) == 0 || slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		return errs
	}
	if _, err := c.quorum.Propose(ctx, records); err != nil {
		return same(len(us), err)
	}
	return errs
}

func (d *decision) updateFeatures(known []Feature, us []FeatureUpdate) ([]metadata.Record, []error) {
	var records []metadata.Record
	errs := make([]error, len(us))
	for i, u := range us {
		if slices.ContainsFunc(us[:i], func(before FeatureUpdate) bool { return before.Name == u.Name }) {
			errs[i] = refuse(codeInvalidRequest, "feature %q stands in the request more than once; name it once", u.Name)
			continue
		}
		have := d.img.Features()[u.Name]
		if errs[i] = u.check(known, have); errs[i] == nil && u.Level != have {
			records = append(records, &metadata.FeatureSet{Name: u.Name, Level: u.Level})
		}
	}
	return records, errs
}

// check tells why a feature cannot go from one level to the wished one.
func (u FeatureUpdate) check(known []Feature, have int16) error {
	at := slices.IndexFunc(known, func(f Feature) bool { return f.Name == u.Name })
	if at < 0 {
		return refuse(codeInvalidUpdateVersion, "there is no feature %q here", u.Name)
	}
	switch f := known[at]; {
	case u.Kind < Upgrade || u.Kind > UnsafeDowngrade:
		return refuse(codeInvalidUpdateVersion, "feature %q: upgrade type %d is unknown; want 1 upgrade, 2 safe downgrade or 3 unsafe downgrade", u.Name, u.Kind)
	case u.Level < f.Min || u.Level > f.Max:
		return refuse(codeInvalidUpdateVersion, "feature %q cannot have level %d; this node works at levels %d to %d", u.Name, u.Level, f.Min, f.Max)
	case u.Level < have && u.Kind == Upgrade:
		return refuse(codeInvalidUpdateVersion, "feature %q has level %d: ask for a downgrade to bring it to %d", u.Name, have, u.Level)
	case u.Level > have && u.Kind != Upgrade:
		return refuse(codeInvalidUpdateVersion, "feature %q has level %d: ask for an upgrade to bring it to %d", u.Name, have, u.Level)
	}
	return nil
}
