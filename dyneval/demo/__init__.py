"""The embedded default: everything the five steps need on a machine without GPU, weights or network.

The demo world is procedural: prompts ask for small scenes, three demo models draw them with faults, and the truth about
each image is known, so that an oracle can teach and a score can be compared with what it should be. The same arguments
always give the same bytes.

    prompts.demo_prompts(count: int, seed: int) -> list[str]
    prompts.write_prompt(scene: Scene, tier: int, rng: random.Random) -> str
    grammar.scene_from_prompt(prompt: str) -> Scene                      ValueError on a foreign prompt
    scenes.Scene, Group, Relation                                        frozen, to_dict / from_dict
    scenes.random_scene(rng: random.Random, tier: int) -> Scene
    models.DEMO_MODELS: dict[str, DemoModel]                             demo-painter, demo-sketcher, demo-doodler
    models.draw(model_slug: str, prompt: str, seed: int, size: int = 256) -> tuple[PIL.Image.Image, Truth]
    truth.Truth                                                          .truth_t2ia, .truth_iqa, .to_dict(), .from_dict
    truth.Truth.save(image_path: Path) -> Path                           writes the sidecar, returns its path
    truth.Truth.load(path: Path) -> Truth                                takes the sidecar's path
    truth.truth_path(image_path: Path) -> Path                           <image stem>.truth.json beside the image
    knowledge.alignment_questions(prompt: str) -> list[tuple[str, str]]  (question, target answer)
    knowledge.distortion_questions(prompt: str) -> list[tuple[str, str]]
    knowledge.quality_questions(truth: Truth) -> list[tuple[str, str]]
    knowledge.scene_graph(truth: Truth) -> dict[str, list[dict]]         {"nodes": [...], "edges": [...]}
    knowledge.answer(truth: Truth, question: str) -> tuple[int, str]     (score 1-5, reasoning)
    questions.ForeignQuestionError                                       a LookupError: not a question of this world
    photo.photo_like(seed: int, size=(640, 480)) -> PIL.Image.Image
    python -m dyneval.demo.prompts --count N --seed S --output FILE      prompts as text, one a line
"""
