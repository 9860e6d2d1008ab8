package wardnet.zerotrust_test

import data.wardnet.zerotrust

access := {
	"posture": {
		"low": {"required": false, "max_age_seconds": 0, "ttl_seconds": 3600},
		"high": {"required": true, "max_age_seconds": 900, "ttl_seconds": 900},
	},
	"rules": {"clerks": {"applications": ["records", "portal"], "groups": ["clerks"], "actions": ["connect"]}},
}

facts := {
	"subjects": {
		"lan": {"active": true, "groups": {"clerks": true}},
		"minh": {"active": false, "groups": {"clerks": true}},
		"hoa": {"active": true, "groups": {"gardeners": true}},
	},
	"devices": {
		"edge-1": {"certificate": "valid", "quarantined": false, "compliant": true, "posture_at_ns": 1000},
		"edge-revoked": {"certificate": "revoked", "quarantined": false, "compliant": true, "posture_at_ns": 1000},
		"edge-quarantined": {"certificate": "valid", "quarantined": true, "compliant": true, "posture_at_ns": 1000},
		"edge-drifted": {"certificate": "valid", "quarantined": false, "compliant": false, "posture_at_ns": 1000},
	},
	"applications": {
		"portal": {"sensitivity": "low", "segments": {"staff": "p1", "kiosk": "p1"}},
		"records": {"sensitivity": "high", "segments": {"staff": "p2"}},
	},
}

question := {"subject": "lan", "device": "edge-1", "segment": "staff", "application": "records", "action": "connect", "at_ns": 2000}

codes(q) := {r.code | some r in found} if {
	found := zerotrust.reasons with input as q with data.facts as facts with data.access as access
}

test_allowed if {
	zerotrust.allow with input as question with data.facts as facts with data.access as access
	zerotrust.grant == {"rule": "clerks", "ttl_seconds": 900} with input as question with data.facts as facts with data.access as access
	codes(question) == set()
}

test_no_facts_denies_everything if {
	not zerotrust.allow with input as question with data.facts as {} with data.access as access
}

test_no_rules_denies_everything if {
	not zerotrust.allow with input as question with data.facts as facts with data.access as {"posture": access.posture, "rules": {}}
}

test_empty_input_denied if {
	not zerotrust.allow with input as {} with data.facts as facts with data.access as access
}

denied(change, code) if {
	q := object.union(question, change)
	not zerotrust.allow with input as q with data.facts as facts with data.access as access
	code in codes(q)
}

test_unknown_subject if denied({"subject": "nobody"}, "subject_unknown")

test_inactive_subject if denied({"subject": "minh"}, "subject_inactive")

test_unknown_device if denied({"device": "edge-9"}, "device_unknown")

test_revoked_certificate if denied({"device": "edge-revoked"}, "device_certificate")

test_quarantined if denied({"device": "edge-quarantined"}, "device_quarantined")

test_unknown_application if denied({"application": "nothing"}, "application_unknown")

test_wrong_segment if denied({"segment": "public"}, "segment_not_permitted")

test_wrong_group if denied({"subject": "hoa"}, "group_not_entitled")

test_wrong_action if denied({"action": "admin"}, "action_not_permitted")

test_stale_posture if denied({"at_ns": 1000 + 901 * 1000000000}, "posture_stale")

test_posture_from_the_future if denied({"at_ns": -61 * 1000000000}, "posture_stale")

test_failed_posture if denied({"device": "edge-drifted"}, "posture_failed")

test_low_sensitivity_needs_no_posture if {
	q := object.union(question, {"device": "edge-drifted", "application": "portal", "segment": "kiosk"})
	zerotrust.allow with input as q with data.facts as facts with data.access as access
}
