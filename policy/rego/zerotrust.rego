# Zero Trust access to the city's applications (NIST SP 800-207): default deny,
# every condition must hold for every request. Input and facts are described in
# docs/policy.md; time comes from the input only, so that a decision replays.
package wardnet.zerotrust

default allow := false

# The one conjunctive rule: object look-ups only, most selective first.
allow if {
	subject := data.facts.subjects[input.subject]
	subject.active == true
	device := data.facts.devices[input.device]
	device.certificate == "valid"
	device.quarantined == false
	app := data.facts.applications[input.application]
	app.segments[input.segment]
	count(entitlements) > 0
	posture_ok(device, app)
}

# entitlements are the access rules that let one of the subject's groups do this
# action on this application.
entitlements contains name if {
	some name, rule in data.access.rules
	input.application in rule.applications
	input.action in rule.actions
	some group in rule.groups
	data.facts.subjects[input.subject].groups[group] == true
}

# Low and medium sensitivity do not ask for posture; high and critical want a
# compliant device, measured recently. Stale means unknown, and unknown fails.
posture_ok(_, app) if data.access.posture[app.sensitivity].required == false

posture_ok(device, app) if {
	data.access.posture[app.sensitivity].required == true
	device.compliant == true
	posture_fresh(device, app)
}

posture_fresh(device, app) if {
	age := input.at_ns - device.posture_at_ns
	age <= data.access.posture[app.sensitivity].max_age_seconds * 1000000000
	age >= -60 * 1000000000
}

# What an allowed answer carries.
grant := {"rule": min(entitlements), "ttl_seconds": ttl_seconds}

ttl_seconds := data.access.posture[data.facts.applications[input.application].sensitivity].ttl_seconds

# Reasons are computed for denials only; each names rule, attribute, value, what
# is wanted and what would fix it. rank orders them, most fundamental first.
reasons contains {"rank": 10, "code": "subject_unknown", "rule": "subject", "attribute": "subject", "value": input.subject, "want": "a known person or service"} if {
	not data.facts.subjects[input.subject]
}

reasons contains {"rank": 11, "code": "subject_inactive", "rule": "subject", "attribute": "subject.active", "value": "false", "want": "true"} if {
	data.facts.subjects[input.subject].active == false
}

reasons contains {"rank": 20, "code": "device_unknown", "rule": "device", "attribute": "device", "value": input.device, "want": "a managed device"} if {
	not data.facts.devices[input.device]
}

reasons contains {"rank": 21, "code": "device_certificate", "rule": "device", "attribute": "device.certificate", "value": c, "want": "valid"} if {
	c := data.facts.devices[input.device].certificate
	c != "valid"
}

reasons contains {"rank": 22, "code": "device_quarantined", "rule": "device", "attribute": "device.quarantined", "value": "true", "want": "false"} if {
	data.facts.devices[input.device].quarantined == true
}

reasons contains {"rank": 30, "code": "application_unknown", "rule": "application", "attribute": "application", "value": input.application, "want": "an application of the inventory"} if {
	not data.facts.applications[input.application]
}

reasons contains {"rank": 40, "code": "segment_not_permitted", "rule": "segment", "attribute": "segment", "value": input.segment, "want": concat(", ", sort([s | data.facts.applications[input.application].segments[s]]))} if {
	data.facts.applications[input.application]
	not data.facts.applications[input.application].segments[input.segment]
}

reasons contains {"rank": 50, "code": "group_not_entitled", "rule": "entitlement", "attribute": "subject.groups", "value": concat(", ", sort([g | data.facts.subjects[input.subject].groups[g]])), "want": concat(", ", sort(entitled_groups))} if {
	data.facts.subjects[input.subject]
	data.facts.applications[input.application]
	not any_group
}

reasons contains {"rank": 51, "code": "action_not_permitted", "rule": "entitlement", "attribute": "action", "value": input.action, "want": "an action of the access rule"} if {
	any_group
	count(entitlements) == 0
}

reasons contains {"rank": 60, "code": "posture_stale", "rule": "posture", "attribute": "device.posture_at", "value": "older than the maximum age", "want": sprintf("at most %d s old", [data.access.posture[app.sensitivity].max_age_seconds])} if {
	app := data.facts.applications[input.application]
	data.access.posture[app.sensitivity].required == true
	device := data.facts.devices[input.device]
	not posture_fresh(device, app)
}

reasons contains {"rank": 61, "code": "posture_failed", "rule": "posture", "attribute": "device.compliant", "value": "false", "want": "true"} if {
	app := data.facts.applications[input.application]
	data.access.posture[app.sensitivity].required == true
	data.facts.devices[input.device].compliant == false
}

# any_group: some rule for this application names a group of the subject.
any_group if {
	some rule in data.access.rules
	input.application in rule.applications
	some group in rule.groups
	data.facts.subjects[input.subject].groups[group] == true
}

entitled_groups contains group if {
	some rule in data.access.rules
	input.application in rule.applications
	some group in rule.groups
}
