"""The ingest stage: each photo is decoded once, measured and stored in scratch; then the set is judged."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue

from models.artifacts import INDEX_FILE
from models.colour import photo_of
from models.digest import canonical_json
from models.errors import DigitizeError, ReasonCode
from models.media import Kind, kind_of
from models.photos import IngestedPhoto, PhotoIndex, RejectedPhoto
from models.results import StageResult
from tasks.context import Context
from tasks.ingest.archive import ArchiveLimits
from tasks.ingest.colour import Correction
from tasks.ingest.decoder import Decoder
from tasks.ingest.judge import check_reader, judge
from tasks.ingest.masks import match_masks
from tasks.ingest.options import IngestOptions
from tasks.ingest.refusals import colour_unsolved
from tasks.ingest.select import Candidate, Rules, select
from tasks.ingest.source_file import SourceFile
from tasks.ingest.sources import (
    SourceLimits,
    named_by,
    names_of,
    natural_key,
    no_such_photo,
    open_source,
    passed_over,
    refusal_of_type,
    unique_names,
    unique_stems,
)
from tasks.ingest.staging import LEAVES_NOTHING, PhotoTask
from tasks.ingest.video import VideoLimits

_READ_SHARE = 0.95


@dataclass(frozen=True)
class _Job:
    """One photo to decode."""

    file: SourceFile
    name: str
    stem: str
    mask: SourceFile | None
    alignment_only: bool = False


def ingest_photos(context: Context, options: IngestOptions) -> StageResult:
    """Read inputs `photos` and `masks`, write `photos.json`, `images/` and `masks/`.

    Raises DigitizeError for sources that cannot be read at all; single bad photos are listed, not raised.
    """
    with ExitStack() as stack:
        limits = _limits(options)
        files = stack.enter_context(open_source(context, "photos", limits))
        paired = passed_over(files, options.prefer_raw)
        masks: dict[str, SourceFile] = {}
        if "masks" in context.request.inputs:
            given = stack.enter_context(open_source(context, "masks", limits))
            names = dict(zip((file.path for file in files), unique_names(tuple(f.path for f in files)), strict=True))
            names = {path: name for path, name in names.items() if refusal_of_type(path) is None and path not in paired}
            masks = match_masks(list(names), given, context.input("masks").uri, list(names.values()))
        jobs, refused = _plan(files, masks, paired, options.alignment_only)
        with _decoders(context, options) as decoders:
            correction = _correction(context, options, files, paired, jobs, decoders[0])
            candidates, undecoded = _decode_all(context, options, jobs, correction, decoders)
        _refuse_wrong_masks(jobs, undecoded)
    rules = Rules(options.reject_odd_sizes, options.reject_duplicates, options.blur_ratio)
    kept, left_out = select(candidates, rules)
    rejected = sorted((*refused, *undecoded, *left_out), key=lambda photo: natural_key(photo.name))
    index = PhotoIndex(photos=tuple(_store(context, candidate) for candidate in kept), rejected=tuple(rejected))
    check_reader(index, options.min_photos)
    context.output.mkdir(parents=True, exist_ok=True)
    (context.output / INDEX_FILE).write_bytes(canonical_json(index))
    context.progress(1.0, f"{len(index.photos)} of {len(files)} photos usable", {"photos": len(index.photos)})
    told = [file.note for file in files if file.note]
    return judge(index, options.min_photos, len(masks), correction, told)


def _limits(options: IngestOptions) -> SourceLimits:
    return SourceLimits(
        ArchiveLimits(options.max_archive_files, int(options.max_archive_gb * 1e9)),
        VideoLimits(options.max_video_photos, options.video_photos_per_second, options.max_pixels),
    )


def _plan(
    files: Sequence[SourceFile], masks: dict[str, SourceFile], paired: Mapping[str, str], alignment: Sequence[str]
) -> tuple[list[_Job], list[RejectedPhoto]]:
    names = unique_names(tuple(file.path for file in files))
    name_of = dict(zip((file.path for file in files), names, strict=True))
    used, refused = [], []
    for file, name in zip(files, names, strict=True):
        if file.path in paired:
            twin = name_of[paired[file.path]]
            message = f"the raw file of {twin}" if kind_of(file.path) is Kind.RAW else f"the camera's picture of {twin}"
            refused.append(RejectedPhoto(name=name, code=ReasonCode.DUPLICATE, message=message, same_as=twin))
        elif (why := refusal_of_type(file.path)) is None:
            used.append((file, name))
        else:
            raw = kind_of(file.path) is Kind.RAW
            code = ReasonCode.MISSING_DEPENDENCY if raw else ReasonCode.UNSUPPORTED_FORMAT
            refused.append(RejectedPhoto(name=name, code=code, message=why))
    stems = unique_stems(tuple(name for _, name in used))
    paths = [file.path for file in files]
    helping = set[str]().union(*(named_by(pattern, paths) for pattern in alignment))
    return [
        _Job(file, name, stem, masks.get(file.path), file.path in helping)
        for (file, name), stem in zip(used, stems, strict=True)
    ], refused


@contextmanager
def _decoders(context: Context, options: IngestOptions) -> Iterator[list[Decoder]]:
    """A child process a thread; they start when they are asked."""
    every = [Decoder(options.max_pixels, context.check) for _ in range(max(1, context.threads))]
    try:
        yield every
    finally:
        for decoder in every:
            decoder.close()


def _decode_all(
    context: Context,
    options: IngestOptions,
    jobs: Sequence[_Job],
    correction: Correction | None,
    decoders: Sequence[Decoder],
) -> tuple[list[Candidate], list[RejectedPhoto]]:
    """All jobs on `context.threads` threads; two jobs a thread at most are under way, so memory stays bounded."""
    results: dict[str, Candidate | RejectedPhoto] = {}
    threads = len(decoders)
    free: SimpleQueue[Decoder] = SimpleQueue()
    for each in decoders:
        free.put(each)

    def one(job: _Job) -> Candidate | RejectedPhoto:
        decoder = free.get()
        try:
            return _process(context.scratch, options, job, correction, decoder)
        finally:
            free.put(decoder)

    pool = ThreadPoolExecutor(threads, thread_name_prefix="ingest")
    try:
        for result in _windowed(pool, context, one, jobs, 2 * threads):
            results[result.name] = result
            share = _READ_SHARE * len(results) / len(jobs)
            context.progress(share, f"read {len(results)} of {len(jobs)} photos", {"read": len(results)})
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    ordered = [results[job.name] for job in jobs]
    return (
        [result for result in ordered if isinstance(result, Candidate)],
        [result for result in ordered if isinstance(result, RejectedPhoto)],
    )


def _refuse_wrong_masks(jobs: Sequence[_Job], undecoded: Sequence[RejectedPhoto]) -> None:
    """Raise DigitizeError(mask_mismatch) where no mask fits its photo: single ones cost their photo alone."""
    masked = {job.name for job in jobs if job.mask is not None}
    refused = [photo for photo in undecoded if photo.code is ReasonCode.MASK_MISMATCH]
    wrong = {photo.name: photo.message for photo in refused if photo.message != LEAVES_NOTHING}
    if masked and masked <= set(wrong):
        name = next(job.name for job in jobs if job.name in wrong)
        path = next(job.mask.path for job in jobs if job.name == name and job.mask is not None)
        raise DigitizeError(ReasonCode.MASK_MISMATCH, wrong[name], path=path)


def _windowed(
    pool: ThreadPoolExecutor,
    context: Context,
    one: Callable[[_Job], Candidate | RejectedPhoto],
    jobs: Sequence[_Job],
    window: int,
) -> Iterator[Candidate | RejectedPhoto]:
    waiting: set[Future[Candidate | RejectedPhoto]] = set()
    todo = iter(jobs)
    while True:
        context.check()
        while len(waiting) < window and (job := next(todo, None)) is not None:
            waiting.add(pool.submit(one, job))
        if not waiting:
            return
        done, waiting = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()


def _correction(
    context: Context,
    options: IngestOptions,
    files: Sequence[SourceFile],
    paired: Mapping[str, str],
    jobs: Sequence[_Job],
    decoder: Decoder,
) -> Correction | None:
    """White balance and exposure from the photo that the specification names; None where it names none."""
    if options.colour is None:
        return None
    wanted = photo_of(options.colour)
    path = names_of(file.path for file in files).get(wanted)
    if path is None:
        raise colour_unsolved(wanted, no_such_photo(wanted, names_of(job.file.path for job in jobs)))
    if path in paired:
        why = f"expected a photo that is used, found one that {paired[path]} takes the place of"
        raise colour_unsolved(wanted, why)
    job = next((job for job in jobs if job.file.path == path), None)
    if job is None:
        raise colour_unsolved(wanted, refusal_of_type(path) or "expected a photo")
    context.progress(0.0, f"measuring the colours in {job.name}", {})
    with _fetched(context.scratch, options, job, None) as task:
        return decoder.colours(task)


@contextmanager
def _fetched(scratch: Path, options: IngestOptions, job: _Job, correction: Correction | None) -> Iterator[PhotoTask]:
    """What a child is to do, its files on this machine while the context lasts."""
    fetched = (scratch / "fetched" / job.stem, scratch / "fetched" / f"{job.stem}.mask")
    try:
        yield PhotoTask(
            name=job.name,
            stem=job.stem,
            path=job.file.fetch(fetched[0]),
            sha256=job.file.sha256,
            mask=None if job.mask is None else job.mask.fetch(fetched[1]),
            mask_name="" if job.mask is None else job.mask.path,
            folder=scratch / "staged",
            options=options,
            correction=correction,
        )
    finally:
        for path in fetched:
            path.unlink(missing_ok=True)


def _process(
    scratch: Path, options: IngestOptions, job: _Job, correction: Correction | None, decoder: Decoder
) -> Candidate | RejectedPhoto:
    """One photo through a child process."""
    try:
        with _fetched(scratch, options, job, correction) as task:
            found = decoder.photo(task)
    except DigitizeError as error:
        if error.code is not ReasonCode.UNDECODABLE:
            raise
        # a damaged entry of an archive
        return RejectedPhoto(name=job.name, code=error.code, message=error.message)
    return replace(found, alignment_only=job.alignment_only) if isinstance(found, Candidate) else found


def _store(context: Context, candidate: Candidate) -> IngestedPhoto:
    """Move a photo that is used from scratch to the outputs."""
    file = f"images/{candidate.stem}.jpg"
    mask = None if candidate.staged_mask is None else f"masks/{candidate.stem}.png"
    for source, target in ((candidate.staged, file), (candidate.staged_mask, mask)):
        if source is not None and target is not None:
            path = context.output / target
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(source, path)
    return IngestedPhoto(
        name=candidate.name,
        file=file,
        mask=mask,
        width=candidate.width,
        height=candidate.height,
        source_width=candidate.source_width,
        source_height=candidate.source_height,
        focal_px=candidate.focal_px,
        camera_key=candidate.camera_key,
        sharpness=candidate.sharpness,
        source_sha256=candidate.sha256,
        alignment_only=candidate.alignment_only,
        note=candidate.note,
        orientation=candidate.orientation,
    )
