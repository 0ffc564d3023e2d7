"""What an operation is called in clients that are generated from the description: stable, and unlike any other."""

from __future__ import annotations

import re

from dms.adapters.http.routes import PREFIX

_PARAMETER = re.compile(r"<\w+(?::\w+)?>|\{\w+\}")
_NAMES = {
    "DELETE /onboarding/offboard": "offboard_by_delete",
    "DELETE /peers/depreq": "clear_default_provider",
    "DELETE /peers/files/{}": "cancel_file_transfer",
    "GET /archive": "list_archive",
    "GET /device/refusals": "list_refusals",
    "GET /device/status": "get_device_status",
    "GET /diff": "compare_positions",
    "GET /erasures": "list_erasures",
    "GET /events": "stream_events",
    "GET /events/density": "get_event_density",
    "GET /events/position": "find_position",
    "GET /events/export": "export_events",
    "GET /events/ws": "stream_events_by_websocket",
    "GET /jobs": "list_jobs",
    "GET /jobs/summary": "summarize_jobs",
    "GET /jobs/{}/logs": "get_job_output",
    "GET /jobs/{}/output": "get_job_output_window",
    "GET /jobs/{}/output/download": "download_job_output",
    "GET /jobs/{}/output/search": "search_job_output",
    "GET /live/ws": "stream_live_by_websocket",
    "GET /ml-images": "list_ml_images",
    "GET /onboarding/address/new": "create_wallet",
    "GET /onboarding/offboard": "forecast_offboarding",
    "GET /onboarding/provisioned": "get_hardware",
    "GET /onboarding/status": "get_onboarding_status",
    "GET /peers": "list_peers",
    "GET /peers/chat": "list_waiting_chats",
    "GET /peers/chat/clear": "clear_chats_by_get",
    "GET /peers/chat/join": "join_chat",
    "GET /peers/chat/start": "start_chat",
    "GET /peers/depreq": "set_default_provider_by_get",
    "GET /peers/dht": "list_provider_ids",
    "GET /peers/dht/dump": "list_advertisements",
    "GET /peers/file": "get_oldest_file_offer",
    "GET /peers/file/accept": "accept_file_by_websocket",
    "GET /peers/file/clear": "clear_file_offers_by_get",
    "GET /peers/file/send": "send_file_by_websocket",
    "GET /peers/files": "list_file_transfers",
    "GET /peers/files/{}": "get_file_transfer",
    "GET /peers/kad-dht": "list_provider_ids_of_kad_dht",
    "GET /peers/self": "get_own_peer",
    "GET /projections": "list_projections",
    "GET /providers": "list_providers",
    "GET /run/checkpoints": "list_checkpoints",
    "GET /run/checkpoints/{}": "get_checkpoint",
    "GET /run/deploy": "deploy",
    "GET /telemetry/free": "get_free_resources",
    "GET /transactions": "list_transactions",
    "PUT /device/policy": "change_device_policy",
    "POST /archive/run": "run_archive",
    "POST /device/status": "set_device_status",
    "POST /erasures": "erase",
    "POST /gpu/check": "check_gpu",
    "POST /jobs/stop": "stop_jobs",
    "POST /jobs/{}/stop": "stop_job",
    "POST /jobs/{}/terminate": "terminate_job",
    "POST /ml-images/fetch": "fetch_ml_images",
    "POST /onboarding/offboard": "offboard",
    "POST /onboarding/onboard": "onboard",
    "POST /onboarding/resource-config": "change_resources",
    "POST /peers/chat/clear": "clear_chats",
    "POST /peers/depreq": "set_default_provider",
    "POST /peers/file/accept": "accept_file",
    "POST /peers/file/clear": "clear_file_offers",
    "POST /peers/file/send": "send_file",
    "POST /projections/{}/rebuild": "rebuild_projection",
    "POST /run/request-service": "request_service",
    "POST /run/request-service/dry-run": "try_request_service",
    "POST /run/send-status": "send_status_of_run",
    "POST /transactions/request-reward": "request_reward",
    "POST /transactions/send-status": "send_status",
    "POST /transactions/update-status": "update_status",
    "POST /vm/start-custom": "start_custom_vm",
    "POST /vm/start-default": "start_default_vm",
}
"""Of those whose method and path make no good name; {} stands for a parameter."""


def operation_id(method: str, address: str) -> str:
    """`get_job_history` of GET /api/v1/jobs/<job_id>/history. What is at the server's root as well has `_at_root`
    there."""
    path = address.removeprefix(PREFIX)
    name = _NAMES.get(f"{method} {_PARAMETER.sub('{}', path)}") or _spelled(method, path)
    return name if address.startswith(PREFIX) else f"{name}_at_root"


def _spelled(method: str, path: str) -> str:
    steps = path.strip("/").split("/")
    words = [
        step.removesuffix("s") if _PARAMETER.fullmatch(following) else step
        for step, following in zip(steps, [*steps[1:], ""], strict=True)
        if not _PARAMETER.fullmatch(step)
    ]
    return "_".join([method.lower(), *(re.sub(r"\W+", "_", word) for word in words)])
