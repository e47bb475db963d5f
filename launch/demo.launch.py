"""The demo graph: a camera that knows the truth, the node `grex`, and a commander that checks it.

ros2 launch grex_ros demo.launch.py seed:=3
ros2 launch grex_ros demo.launch.py --show-args

Ends when the commander has said all its commands.
"""

from __future__ import annotations

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from grex_ros.demo import DEFAULT_SEED
from launch import LaunchDescription

ARGUMENTS = [
    DeclareLaunchArgument(
        "seed",
        default_value=str(DEFAULT_SEED),
        description="Which objects, light, view and words; a whole number from 0 on.",
    ),
    DeclareLaunchArgument(
        "source",
        default_value="auto",
        choices=["auto", "render", "bag"],
        description="render: MuJoCo draws the scene. bag: a recorded camera is played. auto: the"
        " bag where nothing can be rendered.",
    ),
    DeclareLaunchArgument(
        "bag",
        default_value="",
        description="A bag of this camera; empty = the one in the package.",
    ),
    DeclareLaunchArgument(
        "rate",
        default_value="4.0",
        description="Pictures that the camera publishes in a second, Hz.",
    ),
    DeclareLaunchArgument(
        "out",
        default_value="out/demo",
        description="Folder for answers.jsonl and one overlay a command.",
    ),
    DeclareLaunchArgument(
        "timeout",
        default_value="120.0",
        description="Seconds to wait for the node, and then for each answer.",
    ),
    DeclareLaunchArgument(
        "checkpoint",
        default_value="",
        description="Path of the weights, a .safetensors file; empty = those of the package.",
    ),
    DeclareLaunchArgument(
        "device",
        default_value="auto",
        description="Where the model runs: auto, cpu, cuda or cuda:N.",
    ),
    DeclareLaunchArgument(
        "log_level",
        default_value="info",
        choices=["debug", "info", "warn", "error", "fatal"],
        description="Least severity of the nodes' log lines.",
    ),
]


def _node(name: str, types: dict[str, type], **options: object) -> Node:
    parameters = {
        key: ParameterValue(LaunchConfiguration(key), value_type=kind)
        for key, kind in types.items()
    }
    return Node(
        package="grex_ros",
        executable=f"grex_{name}",
        name=name,
        parameters=[parameters],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        output="screen",
        **options,
    )


def generate_launch_description() -> LaunchDescription:
    """The arguments, the node of grex.launch.py, the camera and the commander."""
    grex = PathJoinSubstitution(
        [get_package_share_directory("grex_ros"), "launch", "grex.launch.py"]
    )
    arguments = {
        "image_topic": "/camera/image_raw",
        "depth_topic": "/camera/depth/image_raw",
        "camera_info_topic": "/camera/camera_info",
        "command_topic": "/command",
        "checkpoint": LaunchConfiguration("checkpoint"),
        "device": LaunchConfiguration("device"),
        "log_level": LaunchConfiguration("log_level"),
    }
    return LaunchDescription(
        [
            *ARGUMENTS,
            # First, for it sets the environment that camera images need in every process.
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(grex), launch_arguments=arguments.items()
            ),
            _node("camera", {"seed": int, "source": str, "bag": str, "rate": float}),
            _node(
                "commander",
                {"seed": int, "out": str, "timeout": float},
                on_exit=Shutdown(reason="the commander has ended"),
            ),
        ]
    )
