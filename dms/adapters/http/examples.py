"""Examples for the API's description: values that the endpoints really take and give."""

from __future__ import annotations

from typing import Any

PEER_ID = "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"
JOB_ID = "0198c0de-1c00-7000-8000-0000000000a1"
ADDRESS = "addr_test1vzpwq95z3xyum8vqndgdd9mdnmafh3djcxnc6jemlgdmswcve6tkw"  # CIP-19's test vector
TIME = "2026-01-31T12:00:00.000000+00:00"
TERMS = (
    f'{{"compute_provider":"{PEER_ID}","estimated_price":"0.02728","job_id":"{JOB_ID}",'
    f'"minutes":1,"service_provider":"{PEER_ID}"}}'
)

OFFER: dict[str, Any] = {
    "memory": 4000,
    "cpu": 4000,
    "channel": "nunet-test",
    "payment_addr": ADDRESS,
    "cardano": False,
    "ntx_price": 0.001,
    "is_available": True,
}
METADATA: dict[str, Any] = {
    "name": "worker-1",
    "update_timestamp": 1769860800,
    "resource": {"memory_max": 16000, "total_core": 4, "cpu_max": 10000},
    "available": {"cpu": 6000, "memory": 12000},
    "reserved": {"cpu": 4000, "memory": 4000},
    "network": "nunet-test",
    "public_key": ADDRESS,
    "node_id": PEER_ID,
    "allow_cardano": False,
    "ntx_price": 0.001,
}
FREE: dict[str, Any] = {
    "id": 1,
    "tot_cpu_hz": 4000,
    "price_cpu": 0,
    "ram": 4000,
    "price_ram": 0,
    "vcpu": 1,
    "disk": 0,
    "price_disk": 0,
    "ntx_price": 0.001,
}
PROVISIONED: dict[str, Any] = {
    "cpu": 10000.0, "memory": 16000, "total_cores": 4,
    "cpu_limits": {"least": 1000, "most": 9000, "offered": 5000, "reserved": 500},
    "memory_limits": {"least": 1600, "most": 14400, "offered": 8000, "reserved": 64},
    "gpus": [
        {"name": "NVIDIA RTX A4000", "uuid": "GPU-5f3c1c6e-7d0a-4d5c-9f1b-2f6a8c1d0e42", "total_vram_mb": 16376,
         "free_vram_mb": 16063},
    ],
    "cardano_needs": {"cpu": 6000, "memory": 10000},
    "channels": ["nunet-staging", "nunet-test", "nunet-team", "nunet-edge"], "most_ntx_price": 1000000.0,
}  # fmt: skip
PEER: dict[str, Any] = {
    "ID": PEER_ID,
    "Addrs": [f"/ip4/192.0.2.7/tcp/9000/p2p/{PEER_ID}"],
    "id": PEER_ID,
    "addrs": [f"/ip4/192.0.2.7/tcp/9000/p2p/{PEER_ID}"],
}
PEER_DATA: dict[str, Any] = {
    "peer_id": PEER_ID,
    "is_available": True,
    "has_gpu": False,
    "allow_cardano": False,
    "gpu_info": None,
    "tokenomics_addrs": ADDRESS,
    "tokenomics_blockchain": "Cardano",
    "available_resources": FREE,
    "services": [],
    "timestamp": 1769860800,
}
SERVICE_REQUEST: dict[str, Any] = {
    "address_user": ADDRESS,
    "max_ntx": 10,
    "blockchain": "Cardano",
    "service_type": "ml-training-cpu",
    "params": {
        "machine_type": "cpu",
        "image_id": "registry.example.com/ml/on-cpu:1",
        "model_url": "https://example.com/model.py",
        "packages": ["numpy"],
    },
    "constraints": {"complexity": "Low", "cpu": 500, "ram": 2000, "vram": 2000, "power": 170, "time": 1},
}
QUOTE: dict[str, Any] = {
    "job_id": JOB_ID,
    "compute_provider_addr": ADDRESS,
    "compute_provider_id": PEER_ID,
    "estimated_price": 0.02728,
    "attempts": 1,
    "signature": "5e" * 64,
    "oracle_message": TERMS,
    **{
        f"{outcome}_hash": "a7" * 32 for outcome in ("metadata", "withdraw", "refund", "distribute_50", "distribute_75")
    },
    "held_until": "2026-01-31T12:10:00.000000+00:00",
    "warnings": [{"pointer": "/blokchain", "detail": "unknown key; did you mean blockchain?"}],
}
DRY_RUN: dict[str, Any] = {
    "compute_provider_addr": ADDRESS,
    "compute_provider_id": PEER_ID,
    "estimated_price": 0.02728,
    "candidates": [{"peer_id": PEER_ID, "price": 0.02728, "chosen": True, "round_trip_ms": 12.5, "trouble": ""}],
    "refused": [{"peer_id": "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp", "reason": "is offline"}],
    "refused_count": 1,
    "unseen_count": 0,
    "warnings": [],
}
JOB: dict[str, Any] = {
    "job_id": JOB_ID,
    "role": "service provider",
    "status": "completed",
    "peer": PEER_ID,
    "price": "0.02728",
    "service_type": "ml-training-cpu",
    "image": "registry.example.com/ml/on-cpu:1",
    "cpu_mhz": 500,
    "memory_mb": 2000,
    "vram_mb": 0,
    "minutes": 1,
    "requested_at": TIME,
    "started_at": TIME,
    "ended_at": TIME,
    "unreachable": False,
    "exit_code": 0,
    "reason": "",
    "fault": "",
    "duration_seconds": 12.5,
    "refund": False,
    "log_lines": 2,
    "log_sha256": "b1" * 32,
    "log_truncated": False,
    "attempt": 1,
    "attempts": 1,
    "failed_attempts": [],
    "lines_before": 0,
    "resumed_from": "",
    "checkpoints": 0,
    "paid": True,
    "cost": "0.02728",
    "claimed": False,
    "settled": False,
    "client": "",
    "gpus": [],
    "position": 17,
    "log_url": f"http://localhost:9999/api/v1/jobs/{JOB_ID}/logs?token={'c2' * 16}",
}
STEP: dict[str, Any] = {"event": "job.service_requested", "position": 4, "time": TIME}
EVENT: dict[str, Any] = {
    "position": 9,
    "time": TIME,
    "topic": "job.completed",
    "schema_version": 1,
    "aggregate_id": f"job-{JOB_ID}",
    "aggregate_version": 8,
    "event_id": "0198c0de-1c00-7000-8000-0000000000e9",
    "causation_id": "0198c0de-1c00-7000-8000-0000000000c9",
    "correlation_id": JOB_ID,
    "traceparent": "",
    "hash": "d3" * 32,
    "data": {"duration_seconds": 12.5},
}
AMOUNT: dict[str, Any] = {"cpu_mhz": 4000, "memory_mb": 4000, "vram_mb": 0}
NOTHING: dict[str, Any] = {"cpu_mhz": 0, "memory_mb": 0, "vram_mb": 0}
HARDWARE: dict[str, Any] = {"cpu_mhz": 10000, "memory_mb": 16000, "vram_mb": 0}
CAPACITY: dict[str, Any] = {
    "providers": [
        {
            "provider": PEER_ID,
            "own": True,
            "available": True,
            "hindrance": "",
            "online": True,
            "channel": "nunet-test",
            "total": HARDWARE,
            "onboarded": AMOUNT,
            "reserved": NOTHING,
            "on_hold": NOTHING,
            "free": AMOUNT,
            "gpus": [],
            "ntx_price": "0.001",
            "network": "internet",
            "network_trouble": "",
            "position": 3,
        }
    ],
    "network": {
        "providers": 1,
        "online": 1,
        "total": HARDWARE,
        "onboarded": AMOUNT,
        "reserved": NOTHING,
        "free": AMOUNT,
    },
}
WALLET: dict[str, Any] = {
    "address": "0x52908400098527886E0F7030069857D2E4169EE7",  # EIP-55's test vector
    "private_key": "00" * 31 + "01",
}
CLOUD_EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "0198c0de-1c00-7000-8000-0000000000e9",
    "source": f"urn:nunet:dms:peer:{PEER_ID}",
    "type": "io.nunet.dms.job.completed.v1",
    "dataschema": "urn:nunet:dms:event:job.completed:v1",
    "subject": f"job-{JOB_ID}",
    "time": "2026-01-31T12:00:00.000000Z",
    "datacontenttype": "application/json",
    "position": 9,
    "streamversion": 8,
    "correlationid": JOB_ID,
    "hash": "d3" * 32,
    "data": {"duration_seconds": 12.5},
}

TX_HASH = "0x" + "e5" * 32
TRANSACTION: dict[str, Any] = {
    "tx_hash": TX_HASH,
    "transaction_type": "withdraw",
    "date_time": "2026-01-31 12:00:00 +0000 UTC",
    "paid_at": TIME,
    "ended_at": TIME,
    "job_id": JOB_ID,
    "role": "compute provider",
    "price": "0.02728",
    "minutes": 1,
    "payee": ADDRESS,
    "payer": ADDRESS,
    "units": "",
    "reward_type": "withdraw",
    "to_provider": "0.02728",
    "to_requester": "0",
    "claimed": False,
    "settled_by": "",
}
REWARD: dict[str, Any] = {
    "service_provider_addr": ADDRESS,
    "compute_provider_addr": ADDRESS,
    "reward_type": "withdraw",
    "signature_datum": "5e" * 64,
    "message_hash_datum": "a7" * 32,
    "datum": f'{{"job_id":"{JOB_ID}","price":"0.02728","to_provider":"0.02728","to_requester":"0"}}',
    "signature_action": "6f" * 64,
    "message_hash_action": "b8" * 32,
    "action": f'{{"action":"withdraw","job_id":"{JOB_ID}","redeemer":0}}',
    "signature": "5e" * 64,
    "oracle_message": f'{{"job_id":"{JOB_ID}","price":"0.02728","to_provider":"0.02728","to_requester":"0"}}',
    "job_id": JOB_ID,
    "price": "0.02728",
    "to_provider": "0.02728",
    "to_requester": "0",
}
STATUS: dict[str, Any] = {"transaction_type": "withdraw", "transaction_status": "success", "tx_hash": TX_HASH}
SIGNED_RECORD: dict[str, Any] = {
    "position": 17,
    "stream": f"job-{JOB_ID}",
    "version": 9,
    "topic": "job.completed",
    "schema_version": 1,
    "time": 1_769_860_800_000_000,
    "event_id": JOB_ID,
    "correlation_id": JOB_ID,
    "causation_id": JOB_ID,
    "traceparent": "",
    "data": '{"duration_seconds":1.5}',
    "previous": "0" * 64,
    "hash": "1" * 64,
    "signature": "2" * 128,
}
