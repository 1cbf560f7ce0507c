"""Worker processes for plugins: the wire, the limits, the program inside, the process seen from outside.

Not here: which worker gets a call, and what its end means for the plugin; see `elemta.plugin.process`.
"""

from .calls import Call
from .child import Question, Worker, WorkerEnded, WorkerSettings, run_worker
from .confine import Limits, Unconfined, confine
from .convert import pack_answer, pack_arguments, unpack_answer, unpack_arguments, without_copy
from .frames import Frame, FrameDecoder, FrameError, Kind, encode_frame
from .program import Link, Loader, Served

__all__ = [
    "Call",
    "Frame",
    "FrameDecoder",
    "FrameError",
    "Kind",
    "Limits",
    "Link",
    "Loader",
    "Question",
    "Served",
    "Unconfined",
    "Worker",
    "WorkerEnded",
    "WorkerSettings",
    "confine",
    "encode_frame",
    "pack_answer",
    "pack_arguments",
    "run_worker",
    "unpack_answer",
    "unpack_arguments",
    "without_copy",
]
