"""Start the node `grex` on a camera and a command topic.

ros2 launch grex_ros grex.launch.py image_topic:=/camera/color/image_raw
ros2 launch grex_ros grex.launch.py --show-args
"""

from __future__ import annotations

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

ARGUMENTS = [
    DeclareLaunchArgument(
        "namespace",
        default_value="",
        description="Namespace of the node; relative topic names below live in it.",
    ),
    DeclareLaunchArgument(
        "params_file",
        default_value="",
        description="YAML file with the parameters; empty = config/grex.yaml of the package,"
        " which explains every one.",
    ),
    DeclareLaunchArgument(
        "image_topic",
        default_value="image",
        description="Colour images (sensor_msgs/Image). With the parameter image_transport:"
        " compressed, IMAGE_TOPIC/compressed is taken instead.",
    ),
    DeclareLaunchArgument(
        "depth_topic",
        default_value="depth",
        description="Depth images for 3D positions. Reserved: remapped, but this version does not"
        " subscribe to it.",
    ),
    DeclareLaunchArgument(
        "camera_info_topic",
        default_value="camera_info",
        description="Intrinsics for 3D positions. Reserved: remapped, but this version does not"
        " subscribe to it.",
    ),
    DeclareLaunchArgument(
        "command_topic",
        default_value="command",
        description="Commands in English (std_msgs/String), for example 'pick up all red cups'; an"
        " empty one clears the command in force.",
    ),
    DeclareLaunchArgument(
        "checkpoint",
        default_value="",
        description="Path of the weights, a .safetensors file; empty = as in params_file, whose"
        " default is the weights in the package.",
    ),
    DeclareLaunchArgument(
        "device",
        default_value="",
        description="Where the model runs: auto, cpu, cuda or cuda:N; empty = as in params_file,"
        " whose default is auto.",
    ),
    DeclareLaunchArgument(
        "use_sim_time",
        default_value="false",
        choices=["true", "false"],
        description="Take the time from /clock, as simulators and `ros2 bag play --clock` give it.",
    ),
    DeclareLaunchArgument(
        "autostart",
        default_value="true",
        choices=["true", "false"],
        description="Configure and activate at start; false: a lifecycle manager does it.",
    ),
    DeclareLaunchArgument(
        "log_level",
        default_value="info",
        choices=["debug", "info", "warn", "error", "fatal"],
        description="Least severity of the node's log lines.",
    ),
]


def image_transport_environment(share: Path) -> list[LaunchDescriptionEntity]:
    """Fast DDS with room for camera images; the default transports lose most of them."""
    profile = str(share / "config" / "fastdds.xml")
    names = ["FASTDDS_DEFAULT_PROFILES_FILE"]
    if os.environ.get("ROS_DISTRO") in ("humble", "jazzy"):
        names.append("FASTRTPS_DEFAULT_PROFILES_FILE")  # the older name; newer ones warn about it
    if any(name in os.environ for name in names):
        return []
    return [SetEnvironmentVariable(name, profile) for name in names]


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Make the node from the arguments of this launch."""

    def value(name: str) -> str:
        return str(LaunchConfiguration(name).perform(context))

    share = Path(get_package_share_directory("grex_ros"))
    file = Path(value("params_file") or share / "config" / "grex.yaml").expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"params_file {file} does not exist")
    parameters: dict[str, bool | ParameterValue] = {
        "use_sim_time": value("use_sim_time") == "true",
        "autostart": value("autostart") == "true",
    }
    for name in ("checkpoint", "device"):
        if value(name):
            parameters[name] = ParameterValue(value(name), value_type=str)
    topics = ("image", "depth", "camera_info", "command")
    return [
        LogInfo(msg=f"grex: parameters from {file}"),
        Node(
            package="grex_ros",
            executable="grex_node",
            name="grex",
            namespace=value("namespace"),
            parameters=[str(file), parameters],
            remappings=[(name, value(f"{name}_topic")) for name in topics],
            arguments=["--ros-args", "--log-level", value("log_level")],
            output="screen",
        ),
    ]


def generate_launch_description() -> LaunchDescription:
    """The arguments, the environment of the image transport, and the node."""
    share = Path(get_package_share_directory("grex_ros"))
    return LaunchDescription(
        [*ARGUMENTS, *image_transport_environment(share), OpaqueFunction(function=start)]
    )
